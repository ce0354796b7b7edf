// Package regular reads files that people name, whole, for all parts. It reads regular files only, or links to such, and
// looks at their size first: a device or a pipe has no end, and may have no beginning either. A link to nothing is an error
// of its own, never a file that is not there, for which callers may do without.
package regular

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Read returns the content of a file of at most limit bytes. Its errors name the file and what to do.
func Read(path string, limit int64) ([]byte, error) {
	if err := Check(path); err != nil {
		return nil, err
	}
	data, err := ReadFS(os.DirFS(filepath.Dir(path)), filepath.Base(path), limit)
	return data, renamed(path, err)
}

// ReadFS does the same in a file system; the errors name the file as it is named there.
func ReadFS(dir fs.FS, name string, limit int64) ([]byte, error) {
	info, err := fs.Stat(dir, name)
	if err == nil {
		err = check(info, limit)
	} else if link, missing := fs.Lstat(dir, name); missing == nil {
		err = notFollowed(link, err)
	}
	if err != nil {
		return nil, renamed(name, err)
	}
	file, err := dir.Open(name)
	if err != nil {
		return nil, renamed(name, err)
	}
	defer file.Close()
	if system, ok := file.(*os.File); ok {
		if err := checkFileSystem(func(info *syscall.Statfs_t) error { return syscall.Fstatfs(int(system.Fd()), info) }); err != nil {
			return nil, renamed(name, err)
		}
	}
	data, err := io.ReadAll(io.LimitReader(file, limit+1)) // the size may have changed
	switch {
	case err != nil:
	case int64(len(data)) > limit:
		err = tooLarge(int64(len(data)), limit)
	default:
		err = CheckContent(data)
	}
	if err != nil {
		return nil, renamed(name, err)
	}
	return data, nil
}

// Check finds out whether there is such a file, without opening it: opening a pipe waits for its other end.
func Check(path string) error {
	info, err := os.Stat(path)
	if err == nil {
		err = check(info, 1<<62)
	} else if link, missing := os.Lstat(path); missing == nil {
		err = notFollowed(link, err)
	}
	if err == nil {
		err = checkFileSystem(func(info *syscall.Statfs_t) error { return syscall.Statfs(path, info) })
	}
	return renamed(path, err)
}

// notFollowed says what is wrong with a link that could not be followed to a file, for the reason err.
func notFollowed(link fs.FileInfo, err error) error {
	if link.Mode()&fs.ModeSymlink != 0 && errors.Is(err, fs.ErrNotExist) {
		return errors.New("this is a link to a file that is not there: fetch the file anew, or take the link away")
	}
	return err
}

// CheckContent refuses what stands in the place of a file that git has not fetched; data may be the beginning of the file.
func CheckContent(data []byte) error {
	if bytes.HasPrefix(data, []byte("version https://git-lfs.github.com/spec/")) {
		return errors.New("this is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`")
	}
	return nil
}

func check(info fs.FileInfo, limit int64) error {
	switch {
	case info.IsDir():
		return errors.New("this is a directory: a file is wanted")
	case !info.Mode().IsRegular():
		return errors.New("this is a device, pipe or socket: only regular files are read")
	case info.Size() > limit:
		return tooLarge(info.Size(), limit)
	}
	return nil
}

func tooLarge(size, limit int64) error {
	return fmt.Errorf("the file has %d bytes or more; at most %d are read", size, limit)
}

// fileError is an error about a file; in its text the file's name is as the caller knows it.
type fileError struct {
	path string
	err  error
}

func (e *fileError) Error() string { return e.path + ": " + e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

func renamed(path string, err error) error {
	if err == nil {
		return nil
	}
	var inner *fileError
	var system *fs.PathError
	switch {
	case errors.As(err, &inner):
		err = inner.err
	case errors.As(err, &system):
		err = system.Err
	}
	return &fileError{path, err}
}
