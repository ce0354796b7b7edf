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

// ggufSplit is what a file's metadata say of the model that it is a part of.
type ggufSplit struct {
	number, count int // of the parts; the first is 0; count 0: nothing is said
	tensors       int // of all parts, if countsTensors
	countsTensors bool
}

func (m *Metadata) split() ggufSplit {
	_, counts := m.values["split.tensors.count"]
	return ggufSplit{number: m.Count("split.no"), count: m.Count("split.count"),
		tensors: m.Count("split.tensors.count"), countsTensors: counts}
}

// openGGUF opens a model in one GGUF file, or in the parts that begin with it and lie beside it.
func (f *Files) openGGUF(path string, open func(path string) ([]byte, error)) error {
	data, err := open(path)
	if err != nil {
		return err
	}
	first, err := readGGUF(data)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	parts := []*ggufFile{first}
	if first.split.count > 1 {
		if parts, err = otherParts(path, first, open); err != nil {
			return err
		}
	} else if _, number, named, _ := part(filepath.Base(path)); named > 1 && !first.has("output.weight") {
		return fmt.Errorf("%s: its name says that it is part %d of %d, but its metadata has no split.count to tell what belongs to it, "+
			"and it lacks output.weight: fetch the parts anew, or join them with llama-gguf-split --merge",
			path, number, named)
	}
	if err := checkTensorCount(path, parts); err != nil {
		return err
	}
	if err := f.fromGGUF(parts); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// checkTensorCount compares the tensors of all parts with what the first says of them, which it may without parts too.
func checkTensorCount(path string, parts []*ggufFile) error {
	tensors, said := 0, parts[0].split
	for _, part := range parts {
		tensors += len(part.tensors)
	}
	switch {
	case said.count <= 1 && said.number > 0:
		return fmt.Errorf("%s: its metadata say that it is part %d (split.no) of %d (split.count): fetch all parts of one model",
			path, said.number+1, said.count)
	case said.countsTensors && said.tensors != tensors && len(parts) == 1:
		return fmt.Errorf("%s has %d tensors, and its split.tensors.count says %d: fetch it anew, with all that belongs to it",
			path, tensors, said.tensors)
	case said.countsTensors && said.tensors != tensors:
		return fmt.Errorf("%s: its %d parts have %d tensors, and split.tensors.count says %d: fetch all parts of one model",
			path, len(parts), tensors, said.tensors)
	}
	return nil
}

// otherParts reads all parts of a model, of which first is one.
func otherParts(path string, first *ggufFile, open func(path string) ([]byte, error)) ([]*ggufFile, error) {
	count := first.split.count
	folder, name := filepath.Split(path)
	stem, number, named, suffix := part(name)
	if own := first.split.number + 1; own != 1 {
		start := "the first part"
		if named == count {
			start = fmt.Sprintf("%s%s-00001-of-%05d%s", folder, stem, count, suffix)
		}
		return nil, fmt.Errorf("%s is part %d of %d: serve %s", path, own, count, start)
	}
	if named != count || number != 1 {
		return nil, fmt.Errorf("%s is the first of %d parts, but only a name of the form NAME-00001-of-%05d.gguf tells where the others "+
			"are: rename it", path, count, count)
	}
	parts := []*ggufFile{first}
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
		if own, of := next.split.number+1, next.split.count; own != number || of != count {
			return nil, fmt.Errorf("%s says of itself that it is part %d of %d: fetch all parts of one model", path, own, of)
		}
		parts = append(parts, next)
	}
	return parts, nil
}
