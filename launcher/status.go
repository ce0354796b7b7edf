package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"

	"lockstep/router/api/tgi"
)

const (
	statusTimeout = 10 * time.Second // of the whole answer
	// maxStatusBytes bounds an answer; it has room for all groups that a router follows.
	maxStatusBytes = 16 << 20
	// maxCellRunes bounds what a cell of the table shows of a name.
	maxCellRunes = 60
	// infoPath is TGI's, by the prefix that names the dialect, whichever is the router's default.
	infoPath = "/tgi/info"
)

// statusFlags are those of lockstep status.
type statusFlags struct {
	URL    string   `name:"url" env:"LOCKSTEP_URL" default:"http://127.0.0.1:3000" help:"Where the router answers."`
	APIKey []string `name:"api-key" env:"API_KEY" placeholder:"KEY|@FILE" help:"Key to show, the first if there are several: routers tell their status without, but what stands before one may ask for it."`
	JSON   bool     `name:"json" help:"Print JSON in place of a table."`
}

// routerStatus is what a router's /info has that is shown.
type routerStatus struct {
	ModelID string `json:"model_id"`
	tgi.Fleet
}

// address is the router's.
func (f *statusFlags) address() (*url.URL, error) {
	text := f.URL
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	address, err := url.Parse(text)
	if err != nil || address.Host == "" || address.Scheme != "http" && address.Scheme != "https" {
		return nil, errors.New("--url: this is no URL of a router: want http://HOST:PORT") // it may have a password, so it is not shown
	}
	return address, nil
}

// check refuses what cannot be, and puts what files hold in their place.
func (f *statusFlags) check() error {
	if _, err := f.address(); err != nil {
		return err
	}
	var keys []string
	for _, text := range f.APIKey {
		list, err := values("--api-key", text)
		if err != nil {
			return err
		}
		keys = append(keys, list...)
	}
	f.APIKey = keys
	return nil
}

func (f *statusFlags) run(out io.Writer) error {
	address, err := f.address()
	if err != nil {
		return err
	}
	status, err := f.ask(address)
	if err != nil {
		return err
	}
	if f.JSON {
		text, err := json.MarshalIndent(status, "", "  ")
		if err == nil {
			_, err = fmt.Fprintln(out, escaped(string(text)))
		}
		return err
	}
	return status.write(out, address.Redacted())
}

// ask gets the status of a router. Its errors are for people.
func (f *statusFlags) ask(address *url.URL) (*routerStatus, error) {
	at := address.Redacted()
	request, err := http.NewRequest(http.MethodGet, address.JoinPath(infoPath).String(), nil)
	if err != nil {
		return nil, err
	}
	if len(f.APIKey) > 0 {
		request.Header.Set("Authorization", "Bearer "+f.APIKey[0])
	}
	client := http.Client{Timeout: statusTimeout}
	response, err := client.Do(request)
	if err != nil {
		return nil, unreachable(at, err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxStatusBytes))
	if err != nil {
		return nil, unreachable(at, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, f.refused(at, response, data)
	}
	var status routerStatus
	if err := json.Unmarshal(data, &status); err != nil || status.Version == "" {
		return nil, fmt.Errorf("what answers at %s is no Lockstep router, or one of an older version", at)
	}
	return &status, nil
}

// unreachable says why a router has not answered.
func unreachable(at string, err error) error {
	var failure *url.Error
	if errors.As(err, &failure) {
		err = failure.Err // the URL is said already
	}
	var slow interface{ Timeout() bool }
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nobody listens at %s: start a server (lockstep serve), or say by --url where its router is; one that is "+
			"stopping does not listen either", at)
	case errors.As(err, &slow) && slow.Timeout():
		return fmt.Errorf("%s has not answered within %v", at, statusTimeout)
	}
	return fmt.Errorf("%s cannot be asked: %w", at, err)
}

// refused says what an answer other than 200 means.
func (f *statusFlags) refused(at string, response *http.Response, body []byte) error {
	switch {
	case response.StatusCode == http.StatusUnauthorized && len(f.APIKey) == 0:
		return fmt.Errorf("%s asks for a key: give it by --api-key", at)
	case response.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("%s refuses the key of --api-key", at)
	case response.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(body), `"error_type":"healthcheck"`):
		return fmt.Errorf("the router at %s serves no model yet: no group of shards has come", at)
	}
	return fmt.Errorf("what answers at %s is no Lockstep router, or none that answers as TGI (--dialect): GET %s gave %s", at, infoPath,
		printable(response.Status, maxCellRunes))
}

// write prints the status for people.
func (s *routerStatus) write(out io.Writer, at string) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "model\t%s\nrouter\t%s, version %s\n\n", printable(s.ModelID, maxCellRunes), at, printable(s.Version, maxCellRunes))
	if err := table.Flush(); err != nil { // the columns below have widths of their own
		return err
	}
	if len(s.Groups) == 0 {
		_, err := fmt.Fprintln(out, "No group is there: requests wait for one.")
		return err
	}
	unused := false
	fmt.Fprintln(table, "NODE\tDEVICE\tSHARDS\tNUMERICS\tKV CACHE TOKENS\tFREE AT START\tRUNNING\tWAITING\tSTATE")
	for i := range s.Groups {
		g := &s.Groups[i]
		state := printable(g.State, maxCellRunes)
		if !g.Serves {
			state, unused = state+", unused", true
		}
		for _, cell := range []string{printable(g.Node, maxCellRunes), printable(g.Device, maxCellRunes), strconv.Itoa(g.Shards),
			printable(g.Numerics, maxCellRunes), fmt.Sprintf("%d / %d", g.HeldTokens, g.CapacityTokens), gibibytes(g.FreeBytes),
			strconv.Itoa(g.Running), strconv.Itoa(g.Waiting)} {
			fmt.Fprint(table, cell, "\t")
		}
		fmt.Fprintln(table, state)
	}
	if unused {
		fmt.Fprintln(table, "\nunused: it has another model than the router serves, or computes it by other numerics.")
	}
	return table.Flush()
}

// gibibytes are bytes for people; 0 stands for what is not known.
func gibibytes(bytes int64) string {
	if bytes <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
}

// escaped is JSON in which nothing is left that a terminal would not print.
func escaped(text string) string {
	var out strings.Builder
	for _, r := range text {
		if r == '\n' || unicode.IsPrint(r) {
			out.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&out, "\\u%04x", unit)
		}
	}
	return out.String()
}

// printable is others' text as a terminal may have it, so many runes of it at most; "-" stands for none.
func printable(text string, runes int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
	switch all := []rune(text); {
	case len(all) > runes:
		return string(all[:runes-1]) + "…"
	case len(all) == 0:
		return "-"
	}
	return text
}
