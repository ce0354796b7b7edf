package main

import (
	"fmt"
	"maps"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// What was given on purpose, on the command line, and what merely stands in the environment are treated differently: a
// flag is honoured or refused; a variable may have been meant for another program.

// tidyEnvironment makes the environment what TGI's launcher would take it for: an empty variable is an unset one, and a
// switch is on unless its variable says no; one that weakens the server is on only if it says yes. It returns what the
// operator should know, by flags.
func tidyEnvironment(node *kong.Node) map[string]string {
	warnings := map[string]string{}
	for _, flag := range node.Flags {
		for _, name := range flag.Envs {
			value, found := os.LookupEnv(name)
			switch value = strings.TrimSpace(value); {
			case !found:
			case value == "":
				os.Unsetenv(name)
				if open := flag.Tag.Get("guards"); open != "" {
					warnings[flag.Name] = fmt.Sprintf("%s is set and empty, which is as good as unset: %s", name, open)
				}
			case strings.HasPrefix(value, "tcp://") && flag.Target.Kind() == reflect.Int: // Kubernetes' of a service with such a name
				os.Unsetenv(name)
				warnings[flag.Name] = fmt.Sprintf("%s=%s in the environment is an address and not for --%s: it is ignored", name, value,
					flag.Name)
			case flag.IsBool():
				on := !slices.Contains([]string{"n", "no", "f", "false", "off", "0"}, strings.ToLower(value))
				if flag.Tag.Has("weakens") {
					on = slices.Contains([]string{"y", "yes", "t", "true", "on", "1"}, strings.ToLower(value))
				}
				os.Setenv(name, fmt.Sprint(on))
			}
		}
	}
	for _, child := range node.Children {
		maps.Copy(warnings, tidyEnvironment(child))
	}
	return warnings
}

// unless leaves out warnings of flags that were given.
func unless(parsed *kong.Context, warnings map[string]string) (left []string) {
	for _, flag := range parsed.Flags() {
		if onCommandLine(parsed, flag) {
			delete(warnings, flag.Name)
		}
	}
	return slices.Sorted(maps.Values(warnings))
}

// onCommandLine reports whether a flag was given there.
func onCommandLine(parsed *kong.Context, flag *kong.Flag) bool {
	return slices.ContainsFunc(parsed.Path, func(p *kong.Path) bool { return p.Flag == flag })
}

// inEnvironment returns the variable that a flag has its value from, empty if from none.
func inEnvironment(flag *kong.Flag) string {
	for _, name := range flag.Envs {
		if _, found := os.LookupEnv(name); found {
			return name
		}
	}
	return ""
}

// checkEmpty refuses arguments that are empty: mostly they are a variable of a script that nobody has set, and they may
// open what should be guarded.
func checkEmpty(arguments []string) error {
	for i, argument := range arguments {
		name, value, ok := strings.Cut(argument, "=")
		switch {
		case blank(argument) && i > 0:
			return fmt.Errorf("%s has an empty value: give it one, or leave it out", arguments[i-1])
		case ok && blank(value) && strings.HasPrefix(name, "-"):
			return fmt.Errorf("%s has an empty value: give it one, or leave it out", name)
		}
	}
	return nil
}

// maxNumber bounds all whole numbers: larger ones mean nothing, and sums of them would turn over.
const maxNumber = 1 << 30

// checkGiven refuses values that would be taken for none: an empty one among others, and 0 where that is no value.
func checkGiven(parsed *kong.Context) error {
	for _, flag := range parsed.Flags() {
		name, given := "--"+flag.Name, onCommandLine(parsed, flag)
		if !given {
			if name = inEnvironment(flag); name == "" {
				continue
			}
		}
		texts, _ := flag.Target.Interface().([]string)
		switch _, known := logLevel(flag.Target.String()); {
		case slices.ContainsFunc(texts, blank):
			return fmt.Errorf("%s has an empty value among others: give it one, or leave it out", name)
		case flag.Target.Kind() == reflect.Int && (!flag.HasDefault || flag.Tag.Has("positive")) && flag.Target.Int() == 0,
			flag.Target.Kind() == reflect.Float64 && !flag.HasDefault && flag.Target.Float() == 0:
			return fmt.Errorf("%s must be > 0; leave it out for the default", name)
		case flag.Target.Kind() == reflect.Int && flag.Target.Int() > maxNumber:
			return fmt.Errorf("%s must be at most %d, got %d", name, maxNumber, flag.Target.Int())
		case flag.Target.Kind() == reflect.Float64 && (math.IsNaN(flag.Target.Float()) || math.IsInf(flag.Target.Float(), 0)):
			return fmt.Errorf("%s must be a number, got %v", name, flag.Target.Float())
		case given && flag.Name == "log-level" && !known:
			return fmt.Errorf("--log-level %q: want trace, debug, info, warn, error or off", flag.Target)
		}
	}
	return nil
}

func blank(text string) bool { return strings.TrimSpace(text) == "" }

// refuse returns the reason for the first flag that cannot be honoured, and warnings of variables that are ignored.
func refuse(flags refusedFlags, parsed *kong.Context) (warnings []string, err error) {
	values := reflect.ValueOf(flags)
	for i := range values.NumField() {
		field := values.Type().Field(i)
		variable, reason, matters := field.Tag.Get("env"), field.Tag.Get("refuse"), field.Tag.Get("matters")
		given := fmt.Sprint(values.Field(i).Interface())
		if values.Field(i).IsZero() || slices.Contains(strings.Fields(field.Tag.Get("accept")), given) {
			continue
		}
		name, onPurpose := field.Name, false
		for _, flag := range parsed.Flags() {
			if slices.Contains(flag.Envs, variable) {
				name, onPurpose = "--"+flag.Name, onCommandLine(parsed, flag)
			}
		}
		switch {
		case onPurpose:
			return nil, fmt.Errorf("%s (%s) cannot be honoured: %s", name, variable, reason)
		case matters != "":
			return nil, fmt.Errorf("%s in the environment (%s) cannot be honoured: %s; unset it, since %s", variable, name, reason, matters)
		}
		warnings = append(warnings, fmt.Sprintf("%s in the environment is ignored: %s", variable, reason))
	}
	return warnings, nil
}

// logLevels are those of TGI's logs, and the server's words for them.
var logLevels = map[string]string{"trace": "trace", "debug": "debug", "info": "info", "warn": "warn", "warning": "warn", "error": "error",
	"off": "disabled",
	"5":   "trace", "4": "debug", "3": "info", "2": "warn", "1": "error", "0": "disabled"}

// logLevel reads a level or, as TGI does, a filter of Rust's tracing such as "info,text_generation_router=debug": of its
// directives the last one that applies to everything counts. Directives for parts of TGI have no meaning here; known is
// false where nothing else is said.
func logLevel(filter string) (level string, known bool) {
	for _, directive := range strings.Split(filter, ",") {
		if word, ok := logLevels[strings.ToLower(strings.TrimSpace(directive))]; ok {
			level, known = word, true
		}
	}
	if !known {
		level = "info"
	}
	return level, known
}
