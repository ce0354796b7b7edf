package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// report appends to report.md and results.jsonl as it goes, so that what was found stays when a step is killed.
type report struct {
	step       string
	text, data *os.File
}

func openReport(folder, step string) (*report, error) {
	r := &report{step: step}
	var errs [2]error
	r.text, errs[0] = os.OpenFile(filepath.Join(folder, "report.md"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	r.data, errs[1] = os.OpenFile(filepath.Join(folder, "results.jsonl"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	return r, errors.Join(errs[:]...)
}

func (r *report) line(format string, values ...any) {
	text := fmt.Sprintf(format, values...)
	fmt.Println(text)
	fmt.Fprintln(r.text, text)
}

// table begins one; row adds to it.
func (r *report) table(columns ...string) {
	r.line("\n| %s |\n|%s", strings.Join(columns, " | "), strings.Repeat(" --- |", len(columns)))
}

func (r *report) row(cells ...any) {
	texts := make([]string, len(cells))
	for i, cell := range cells {
		if number, ok := cell.(float64); ok {
			cell = fmt.Sprintf("%.4g", number)
		}
		texts[i] = strings.ReplaceAll(fmt.Sprint(cell), "|", "/")
	}
	r.line("| %s |", strings.Join(texts, " | "))
}

// record writes a line of JSON: values and the step's name.
func (r *report) record(values map[string]any) {
	values["step"] = r.step
	if line, err := json.Marshal(values); err == nil {
		fmt.Fprintf(r.data, "%s\n", line)
	}
}

// records are those that steps have written so far.
func records(folder string) (all []map[string]any) {
	data, err := os.ReadFile(filepath.Join(folder, "results.jsonl"))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) {
		var values map[string]any
		if json.Unmarshal([]byte(line), &values) == nil {
			all = append(all, values)
		}
	}
	return all
}
