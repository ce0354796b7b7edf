package weights

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
)

// partName is how llama.cpp's gguf-split names the parts of a model, counted from 1.
var partName = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})(\.[A-Za-z]+)$`)

// part reads what a file's name says of it; count 0: it says nothing.
func part(name string) (stem string, number, count int, suffix string) {
	match := partName.FindStringSubmatch(name)
	if match == nil {
		return "", 0, 0, ""
	}
	number, _ = strconv.Atoi(match[2]) // five digits
	count, _ = strconv.Atoi(match[3])
	return match[1], number, count, match[4]
}

// openGGUF opens a model in one GGUF file, or in the parts that begin with it and lie beside it.
func (m *Model) openGGUF(path string, open func(path string) ([]byte, error)) error {
	data, err := open(path)
	if err != nil {
		return err
	}
	first, err := readGGUF(data)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	parts := []*ggufFile{first}
	if count := first.meta.count("split.count"); count > 1 {
		if parts, err = otherParts(path, first, count, open); err != nil {
			return err
		}
	} else if _, number, count, _ := part(filepath.Base(path)); count > 1 && !first.has("output.weight") {
		return fmt.Errorf("%s: its name says that it is part %d of %d, but its metadata has no split.count to tell what belongs to it, and it lacks output.weight: fetch the parts anew, or join them with llama-gguf-split --merge",
			path, number, count)
	}
	if err := m.fromGGUF(parts); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// otherParts reads all parts of a model, of which first is one.
func otherParts(path string, first *ggufFile, count int, open func(path string) ([]byte, error)) ([]*ggufFile, error) {
	folder, name := filepath.Split(path)
	stem, number, named, suffix := part(name)
	if own := first.meta.count("split.no") + 1; own != 1 {
		start := "the first part"
		if named == count {
			start = fmt.Sprintf("%s%s-00001-of-%05d%s", folder, stem, count, suffix)
		}
		return nil, fmt.Errorf("%s is part %d of %d: serve %s", path, own, count, start)
	}
	if named != count || number != 1 {
		return nil, fmt.Errorf("%s is the first of %d parts, but only a name of the form NAME-00001-of-%05d.gguf tells where the others are: rename it", path, count, count)
	}
	parts, tensors := []*ggufFile{first}, len(first.tensors)
	for number := 2; number <= count; number++ {
		path := fmt.Sprintf("%s%s-%05d-of-%05d%s", folder, stem, number, count, suffix)
		data, err := open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s, part %d of %d of the model, is missing: put all parts into one directory", path, number, count)
		} else if err != nil {
			return nil, err
		}
		next, err := readGGUF(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if own, of := next.meta.count("split.no")+1, next.meta.count("split.count"); own != number || of != count {
			return nil, fmt.Errorf("%s says of itself that it is part %d of %d: fetch all parts of one model", path, own, of)
		}
		parts, tensors = append(parts, next), tensors+len(next.tensors)
	}
	if all := first.meta.count("split.tensors.count"); all != 0 && all != tensors {
		return nil, fmt.Errorf("%s: its %d parts have %d tensors, and split.tensors.count says %d: fetch all parts of one model", path, count, tensors, all)
	}
	return parts, nil
}
