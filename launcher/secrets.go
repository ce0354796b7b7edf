package main

import (
	"errors"
	"fmt"
	"net/url"
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
	if !isFile {
		return []string{text}, nil
	}
	data, err := regular.Read(path, maxSecretBytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	for line := range strings.Lines(string(data)) {
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
		urls = append(urls, list...)
	}
	for _, text := range urls {
		if !strings.Contains(text, "://") {
			text = "nats://" + text
		}
		if _, err := url.Parse(text); err != nil {
			var bad *url.Error
			errors.As(err, &bad) // bad.URL may have a password
			return fmt.Errorf("--nats-url: %w: want nats://HOST:PORT", bad.Err)
		}
	}
	f.NATSURL = urls
	return nil
}

const concealed = "***"

var (
	secretName = regexp.MustCompile(`(?i)KEY|PASS(WORD|WD|PHRASE|_|$)|TOKEN|SECRET|CREDENTIAL|AUTH|COOKIE|PRIVATE`)
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

// shown is an environment as it may be logged.
func shown(environment []string) []string {
	list := make([]string, len(environment))
	for i, pair := range environment {
		list[i] = conceal(pair)
	}
	return list
}

// withoutSecrets is an environment for children, which get their configuration in a file.
func withoutSecrets(environment []string) (list []string) {
	for _, pair := range environment {
		if conceal(pair) == pair {
			list = append(list, pair)
		}
	}
	return list
}
