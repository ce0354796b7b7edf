package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecretsAreConcealed(t *testing.T) {
	for pair, want := range map[string]string{
		"API_KEY=abc": "API_KEY=***", "LOCKSTEP_CLUSTER_KEY=abc=def": "LOCKSTEP_CLUSTER_KEY=***", "HF_TOKEN=hf_x": "HF_TOKEN=***",
		"HUGGING_FACE_HUB_TOKEN=x":  "HUGGING_FACE_HUB_TOKEN=***",
		"LOCKSTEP_CERTS_PASSWORD=x": "LOCKSTEP_CERTS_PASSWORD=***", "PGPASSWORD=x": "PGPASSWORD=***",
		"mysql_pwd_passwd=x": "mysql_pwd_passwd=***", "DB_PASS=x": "DB_PASS=***",
		"AWS_SECRET_ACCESS_KEY=x": "AWS_SECRET_ACCESS_KEY=***", "GOOGLE_APPLICATION_CREDENTIALS=/x": "GOOGLE_APPLICATION_CREDENTIALS=***",
		"NGROK_AUTHTOKEN=x":                     "NGROK_AUTHTOKEN=***",
		"LOCKSTEP_NATS_URL=user:p4ss@host:4222": "LOCKSTEP_NATS_URL=***",
		"http_proxy=http://u:p@proxy:3128/":     "http_proxy=http://***@proxy:3128/",
		"HOOK=https://x/?token=abc&a=b":         "HOOK=https://x/?token=***&a=b",
		"MAX_TOTAL_TOKENS=2048":                 "MAX_TOTAL_TOKENS=2048", "TOKENIZERS_PARALLELISM=true": "TOKENIZERS_PARALLELISM=true",
		"PATH=/bin:/usr/bin": "PATH=/bin:/usr/bin", "PWD=/x": "PWD=/x",
		"MODEL_ID=/models/a@b": "MODEL_ID=/models/a@b", "API_KEY=": "API_KEY=",
	} {
		if got := conceal(pair); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// Of what is not ours only names are shown, and children get nothing of it.
func TestEnvironmentIsShownByName(t *testing.T) {
	environment := []string{"MYSQL_PWD=x", "DSN=user:pw@tcp(h)", "SLACK_WEBHOOK=https://x/y", "PATH=/bin", "MAX_TOTAL_TOKENS=7",
		"API_KEY=x", "MODEL_ID=m", "CUDA_VISIBLE_DEVICES=0"}
	if got, want := strings.Join(shown(environment), " "),
		"MYSQL_PWD=*** DSN=*** SLACK_WEBHOOK=*** PATH=/bin MAX_TOTAL_TOKENS=7 API_KEY=*** MODEL_ID=m CUDA_VISIBLE_DEVICES=0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := strings.Join(ofSystem(environment), " "), "PATH=/bin CUDA_VISIBLE_DEVICES=0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, text := range []string{"u:hunter2@127.0.0.1:4499", "nats://u:p@ss?hunter2@h", "nats://u:hunter2#@h", "nats://u:hunter2@h:port"} {
		f := nodeFlags{NATSURL: []string{text}}
		if err := f.readSecrets(); err != nil && strings.Contains(err.Error(), "hunter2") || err == nil &&
			strings.Contains(hosts(f.NATSURL), "u:") {
			t.Errorf("%s: got %v, %s", text, err, hosts(f.NATSURL))
		}
	}
}

// Every flag with a secret takes it from a file.
func TestSecretsFromFiles(t *testing.T) {
	withoutEnvironment(t)
	folder := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return "@" + path
	}
	c, err := parse([]string{"--api-key", file("keys", "one\n\ntwo\n"), "--cluster-key", file("cluster", "  the secret of a cluster \n"),
		"--nats-url", file("nats", "nats://u:p@a:1\nnats://u:p@b:2\n")}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.guard.APIKeys, " ") + " " + c.ClusterKey + " " +
		strings.Join(c.NATSURL, " "); got != "one two the secret of a cluster nats://u:p@a:1 nats://u:p@b:2" {
		t.Errorf("got %s", got)
	}
	if got := openSecrets([]string{"@" + filepath.Join(folder, "cluster"), "a key", "@/does/not/exist"}); len(got) != 0 {
		t.Errorf("got %q", got)
	}
	if err := os.Chmod(filepath.Join(folder, "keys"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := openSecrets([]string{"@" + filepath.Join(folder, "keys")}); len(got) != 1 {
		t.Errorf("got %q", got)
	}
	empty, several := file("empty", " \n"), file("several", "a\nb\n")
	if err := os.Symlink("/dev/zero", filepath.Join(folder, "endless")); err != nil {
		t.Fatal(err)
	}
	large := file("large", strings.Repeat("x", maxSecretBytes+1))
	for _, test := range []struct{ flag, value, want string }{
		{"--cluster-key", empty, "is empty"}, {"--api-key", empty, "is empty"}, {"--nats-url", empty, "is empty"},
		{"--cluster-key", several, "has 2 lines: one is wanted"},
		{"--cluster-key", "@" + folder + "/endless", "only regular files"}, {"--api-key", "@" + folder + "/endless", "only regular files"},
		{"--nats-url", large, "at most 65536"},
		{"--api-key", "@" + folder, "a directory"}, {"--cluster-key", "@" + folder + "/nowhere", "no such file"},
		{"--nats-url", "nats://user:p4ss@host:port", "want nats://HOST:PORT"},
	} {
		_, err := parse([]string{test.flag, test.value}, io.Discard)
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), test.flag) ||
			strings.Contains(err.Error(), "p4ss") {
			t.Errorf("%s %s: got %v, want %q", test.flag, test.value, err, test.want)
		}
	}
	certs := certsFlags{Folder: filepath.Join(folder, "certs"), Host: []string{"localhost"}, Days: 1, Password: file("password", "pw\n")}
	if err := certs.run(io.Discard); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(certs.Folder, "key_pwd.txt")); err != nil || strings.TrimSpace(string(got)) != "pw" {
		t.Errorf("got %q, %v", got, err)
	}
}
