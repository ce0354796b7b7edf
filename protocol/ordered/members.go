package ordered

import "encoding/json"

// Member is a member of an object.
type Member struct {
	Name  string
	Value json.RawMessage // shares the data's memory; appending to it does not write there
}

// Members reads data that is one object and nothing else. Of members of one name the last counts, at the place of the first.
// With an error it returns the members before it.
func Members(data []byte, maxDepth int) ([]Member, error) {
	r := NewReader(string(data), maxDepth)
	members, at := []Member{}, map[string]int{}
	err := r.Object(func(name string) error {
		r.Next()
		start := r.at
		if _, err := r.Raw(); err != nil {
			return err
		}
		value := data[start:r.at:r.at]
		if i, ok := at[name]; ok {
			members[i].Value = value
			return nil
		}
		at[name] = len(members)
		members = append(members, Member{name, value})
		return nil
	})
	if err == nil {
		err = r.End()
	}
	return members, err
}
