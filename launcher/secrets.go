package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"strings"

	"lockstep/protocol/regular"
)

// maxSecretBytes bounds a file of keys, passwords or addresses.
const maxSecretBytes = 64 << 10

// values reads what stands for a flag's value or values: @FILE holds one a line, so that they do not show in the list of
// processes; anything else is the value.
func values(flag, text string) (list []string, err error) {
	path, isFile := strings.CutPrefix(text, "@")
	if info, err := os.Stat(text); !isFile && strings.Contains(text, "/") && err == nil && info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s %s is a file: write @%s if the value stands in it", flag, text, text)
	} else if !isFile {
		return []string{text}, nil
	}
	data, err := regular.Read(path, maxSecretBytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	for line := range strings.Lines(strings.TrimPrefix(string(data), "\ufeff")) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: %s is empty: put the value into it", flag, path)
	}
	return list, nil
}

// value is values for a flag of one value.
func value(flag, text string) (string, error) {
	list, err := values(flag, text)
	switch {
	case err != nil:
		return "", err
	case len(list) > 1:
		return "", fmt.Errorf("%s: %s has %d lines: one is wanted", flag, strings.TrimPrefix(text, "@"), len(list))
	}
	return list[0], nil
}

// openSecrets warns of files with secrets that everybody on the machine can read.
func openSecrets(texts []string) (warnings []string) {
	for _, text := range texts {
		path, isFile := strings.CutPrefix(text, "@")
		if info, err := os.Stat(path); isFile && err == nil && info.Mode().Perm()&0o004 != 0 {
			warnings = append(warnings, fmt.Sprintf("%s holds a secret and every user of this machine can read it: chmod 600 %s", path,
				path))
		}
	}
	return warnings
}

// readSecrets puts what files hold in their place, for the flags of a node.
func (f *nodeFlags) readSecrets() (err error) {
	if f.ClusterKey, err = value("--cluster-key", f.ClusterKey); err != nil {
		return err
	}
	var urls []string
	for _, text := range f.NATSURL {
		list, err := values("--nats-url", text)
		if err != nil {
			return err
		}
		for _, text := range list {
			if !strings.Contains(text, "://") {
				text = "nats://" + text
			}
			if address, err := url.Parse(text); err != nil || address.Host == "" {
				return errors.New("--nats-url: one of them is no URL: want nats://HOST:PORT") // it may have a password, so it is not shown
			}
			urls = append(urls, text)
		}
	}
	f.NATSURL = urls
	return nil
}

// hosts are where servers are, without what their URLs have of users.
func hosts(urls []string) string {
	var list []string
	for _, text := range urls {
		if address, err := url.Parse(text); err == nil {
			list = append(list, address.Host)
		}
	}
	return strings.Join(list, ", ")
}

const concealed = "***"

var (
	secretName = regexp.MustCompile(`(?i)KEY|PASS(WORD|WD|PHRASE|_|$)|TOKEN|SECRET|CREDENTIAL|AUTH|COOKIE|PRIVATE|^LOCKSTEP_NATS_URL$`)
	countName  = regexp.MustCompile(`_TOKENS$|^TOKENIZERS?_`) // of tokens that are no secret
	userInfo   = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^/?#\s,]*@`)
	parameter  = regexp.MustCompile(`(?i)\b((?:api_?)?key|password|passwd|token|secret)=[^&\s,;]+`)
)

// conceal returns NAME=VALUE as it may be shown: without values whose name says that they are secret, and without the
// user and the parameters of addresses that do.
func conceal(pair string) string {
	name, value, _ := strings.Cut(pair, "=")
	if value != "" && secretName.MatchString(name) && !countName.MatchString(name) {
		return name + "=" + concealed
	}
	value = userInfo.ReplaceAllString(value, "${1}"+concealed+"@")
	return name + "=" + parameter.ReplaceAllString(value, "${1}="+concealed)
}

// systemName are variables that have no secrets and that programs of any kind read.
var systemName = regexp.MustCompile(`^(PATH|HOME|USER|LOGNAME|SHELL|PWD|TERM|LANG|LC_[A-Z]+|TZ|TMPDIR|HOSTNAME|LD_LIBRARY_PATH|container` +
	`|GO(DEBUG|GC|MEMLIMIT|MAXPROCS|TRACEBACK)|OMP_[A-Z_]+|(CUDA|NVIDIA|NCCL|ROCR|HIP)_[A-Z_]+)$`)

// shown is an environment as it may be logged: of the variables that a server reads, the values that are no secrets, and of
// all others the names. What a name or a value of somebody else's program gives away, nobody can tell.
func shown(environment []string) []string {
	list := make([]string, len(environment))
	for i, pair := range environment {
		name, _, _ := strings.Cut(pair, "=")
		if !systemName.MatchString(name) && !readsVariable(name) {
			pair = name + "=" + concealed
		}
		list[i] = conceal(pair)
	}
	return list
}

// readsVariable reports whether a flag has this variable.
func readsVariable(name string) bool {
	var reads func(t reflect.Type) bool
	reads = func(t reflect.Type) bool {
		for i := range t.NumField() {
			field := t.Field(i)
			if field.Tag.Get("env") == name || field.Type.Kind() == reflect.Struct && reads(field.Type) {
				return true
			}
		}
		return false
	}
	return reads(reflect.TypeFor[commandLine]())
}

// ofSystem is an environment for children, which get their configuration in a file.
func ofSystem(environment []string) (list []string) {
	for _, pair := range environment {
		if name, _, _ := strings.Cut(pair, "="); systemName.MatchString(name) && conceal(pair) == pair {
			list = append(list, pair)
		}
	}
	return list
}
