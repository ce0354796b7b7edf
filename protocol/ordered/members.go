package ordered

import "encoding/json"

// Member is a member of an object.
type Member struct {
	Name  string
	Value json.RawMessage // shares the data's memory; appending to it does not write there
}

// Members reads data that is one object and nothing else. Of members of one name the last counts, at the place of the first.
func Members(data []byte, maxDepth int) ([]Member, error) {
	r := NewReader(string(data), maxDepth)
	members, at := []Member{}, map[string]int{}
	err := r.Object(func(name string) error {
		r.Next()
		start := r.at
		_, err := r.Raw()
		value := data[start:r.at:r.at]
		if i, ok := at[name]; ok {
			members[i].Value = value
			return err
		}
		at[name] = len(members)
		members = append(members, Member{name, value})
		return err
	})
	if err == nil {
		err = r.End()
	}
	if err != nil {
		return nil, err
	}
	return members, nil
}
