package cli

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"mneme/internal/api/access"
	"mneme/internal/cli/keyfile"
)

// newKeyFile makes keys of these names and a file of them.
func newKeyFile(t *testing.T, names ...string) (path string, keys map[string]string) {
	t.Helper()
	path, keys = filepath.Join(t.TempDir(), "keys"), map[string]string{}
	var text strings.Builder
	for _, name := range names {
		key, line := keyfile.New(name, access.Limits{})
		keys[name] = key
		text.WriteString(line + "\n")
	}
	rewrite(t, path, text.String())
	return path, keys
}

func rewrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// as sends a request with a key.
func as(t *testing.T, key, method, url, body string) (status int, said string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// A key is made, and opens a running server once its line is in the file and
// SIGHUP was sent. A broken file changes nothing; the log says what is wrong with it.
func TestKeysAreReadAgain(t *testing.T) {
	path, keys := newKeyFile(t, "ada")
	p := startServe(t, tinyModel(t), t.TempDir(), "MNEME_API_KEYS="+path)
	agents := p.url() + "/v1/agents"
	s := newStage(t)
	if code := s.run("keys", "new", "bob", "--requests", "2/h", "--kv", "1GiB"); code != exitDone {
		t.Fatalf("exit %d: %s", code, &s.err)
	}
	bob, line, _ := strings.Cut(strings.TrimSuffix(s.out.String(), "\n"), "\n")
	want := func(key string, status int) {
		t.Helper()
		if got, said := as(t, key, http.MethodGet, agents, ""); got != status {
			t.Errorf("%d %s, want %d", got, said, status)
		}
	}
	want("", 401)
	want(bob, 401)
	want(keys["ada"], 200)
	rewrite(t, path, line+"\n")
	p.signal(syscall.SIGHUP)
	p.waitFor(`"msg":"read the files of keys and certificates again","keys":1`)
	want(keys["ada"], 401)
	want(bob, 200)
	rewrite(t, path, "bob is broken\n")
	p.signal(syscall.SIGHUP)
	p.waitFor("keys:1: after the name comes the SHA-256 of the key")
	want(bob, 200)
	want(bob, 429)
	if said := p.said.String(); strings.Contains(said, bob) || strings.Contains(said, keys["ada"]) || !strings.Contains(said, `"key":"bob"`) {
		t.Errorf("the log must have names and no keys:\n%s", said)
	}
	s = newStage(t, "MNEME_API_KEY="+bob, "MNEME_ADDR="+strings.TrimPrefix(p.url(), "http://"))
	if code := s.run("agents", "ls"); code != exitFailed || !strings.Contains(s.err.String(), "the key bob has used up its requests (2/h)") {
		t.Errorf("agents ls: exit %d, %s%s", code, &s.out, &s.err)
	}
	if code := p.end(syscall.SIGTERM); code != exitDone {
		t.Errorf("exit %d", code)
	}
}

// completed is what a completion says, and what was cached of its prompt.
type completed struct {
	Choices []struct {
		IDs []int `json:"token_ids"`
	}
	Usage struct {
		Prompt  int `json:"prompt_tokens"`
		Details struct {
			Cached int `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	}
}

// complete has a text completed for a key; agent may be "".
func complete(t *testing.T, url, key, agent, text string) completed {
	t.Helper()
	body, _ := json.Marshal(map[string]any{"prompt": text, "max_tokens": 8, "temperature": 0, "ignore_eos": true, "return_token_ids": true})
	r, _ := http.NewRequest(http.MethodPost, url+"/v1/completions", bytes.NewReader(body))
	r.Header.Set("X-Api-Key", key)
	if agent != "" {
		r.Header.Set("X-Agent-ID", agent)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var s completed
	if err := json.NewDecoder(answer.Body).Decode(&s); err != nil || answer.StatusCode != 200 || len(s.Choices) != 1 {
		t.Fatalf("%s %+v (%v)", answer.Status, s, err)
	}
	return s
}

// What one key has done, another one does not see: not its agents, not its
// responses, not by what is cached, not by the ids of its answers; also not after
// a restart.
func TestKeysAreApart(t *testing.T) {
	path, keys := newKeyFile(t, "ada", "bob", "eve")
	model, data := tinyModel(t), t.TempDir()
	p := startServe(t, model, data, "MNEME_API_KEYS="+path)
	url := p.url()
	text := strings.Repeat("what ada thinks of the rain in spain ", 12)
	fresh := complete(t, url, keys["ada"], "a", text)
	if again := complete(t, url, keys["ada"], "", text); fresh.Usage.Details.Cached != 0 || again.Usage.Details.Cached < again.Usage.Prompt-64 {
		t.Fatalf("ada's own: %+v, then %+v", fresh.Usage, again.Usage)
	}
	status, response := as(t, keys["ada"], http.MethodPost, url+"/v1/responses", `{"input":"hello","max_output_tokens":16}`)
	id := regexp.MustCompile(`"id":"(resp_[^"]+)"`).FindStringSubmatch(response)
	if status != 200 || id == nil {
		t.Fatalf("%d %s", status, response)
	}
	apart := func(key string) {
		t.Helper()
		for _, agent := range []string{"", "a"} {
			other := complete(t, url, keys[key], agent, text)
			if agent == "" && other.Usage.Details.Cached != 0 {
				t.Errorf("%s has %d tokens of ada's", key, other.Usage.Details.Cached)
			}
			if other.Usage.Prompt != fresh.Usage.Prompt || !equal(other.Choices[0].IDs, fresh.Choices[0].IDs) {
				t.Errorf("%s: %+v, ada %+v", key, other, fresh)
			}
		}
		for _, path := range []string{"/v1/responses/" + id[1], "/v1/agents/b"} {
			if status, said := as(t, keys[key], http.MethodGet, url+path, ""); status != 404 {
				t.Errorf("%s sees %s: %d %s", key, path, status, said)
			}
		}
	}
	complete(t, url, keys["ada"], "b", "only ada has this agent")
	apart("bob")
	p.end(syscall.SIGKILL)
	p = startServe(t, model, data, "MNEME_API_KEYS="+path)
	url = p.url()
	apart("eve")
	for key, want := range map[string]string{"ada": `"id":"b"`, "bob": `"id":"a"`} {
		if status, said := as(t, keys[key], http.MethodGet, url+"/v1/agents", ""); status != 200 || !strings.Contains(said, want) || strings.Contains(said, `"id":"b"`) != (key == "ada") {
			t.Errorf("%s: %d %s", key, status, said)
		}
	}
}

func equal(a, b []int) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return bytes.Equal(x, y)
}

// certificate writes one for 127.0.0.1 and its key.
func certificate(t *testing.T, dir, name string) (pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	rewrite(t, filepath.Join(dir, "cert.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	rewrite(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	pool = x509.NewCertPool()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(cert)
	return pool
}

// With a certificate the server speaks TLS 1.2 or newer, and takes a renewed
// certificate on SIGHUP.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	first := certificate(t, dir, "first")
	p := startServe(t, tinyModel(t), t.TempDir(), "MNEME_TLS_CERT="+filepath.Join(dir, "cert.pem"), "MNEME_TLS_KEY="+filepath.Join(dir, "key.pem"))
	p.waitFor(`"msg":"serving"`)
	url := regexp.MustCompile(`mneme listens on (https://\S+)`).FindStringSubmatch(p.said.String())
	if url == nil {
		t.Fatalf("it said\n%s", p.said)
	}
	get := func(trust *x509.CertPool, most uint16) error {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust, MinVersion: tls.VersionTLS10, MaxVersion: most}}
		defer transport.CloseIdleConnections()
		answer, err := (&http.Client{Transport: transport}).Get(url[1] + "/healthz")
		if err != nil {
			return err
		}
		return answer.Body.Close()
	}
	if err := get(first, tls.VersionTLS12); err != nil {
		t.Error(err)
	}
	if err := get(first, tls.VersionTLS11); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.1: %v", err)
	}
	second := certificate(t, dir, "second")
	p.signal(syscall.SIGHUP)
	p.waitFor("read the files of keys and certificates again")
	if err := get(second, 0); err != nil {
		t.Error(err)
	}
	if err := get(first, 0); err == nil {
		t.Error("it still shows the first certificate")
	}
	rewrite(t, filepath.Join(dir, "cert.pem"), "nonsense")
	p.signal(syscall.SIGHUP)
	p.waitFor("the old ones hold")
	if err := get(second, 0); err != nil {
		t.Error(err)
	}
}

// Without keys only this machine is served; what cannot be is said.
func TestServeRefusesStrangers(t *testing.T) {
	keys, _ := newKeyFile(t, "ada")
	loose, _ := newKeyFile(t, "ada")
	if err := os.Chmod(loose, 0o644); err != nil {
		t.Fatal(err)
	}
	const outside = "without --api-keys only this machine can be served"
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{"--addr :0", "--addr :0: " + outside, exitUsage},
		{"--addr 0.0.0.0:0", outside, exitUsage},
		{"--addr [::]:0", outside, exitUsage},
		{"--addr 192.0.2.1:0", outside, exitUsage},
		{"--addr 127.0.0.1:0 --model nobody", `unknown model "nobody"`, exitFailed},
		{"--addr localhost:0 --model nobody", `unknown model "nobody"`, exitFailed},
		{"--addr 0.0.0.0:0 --model nobody --api-keys " + keys, "API keys and conversations cross the network as they are", exitFailed},
		{"--api-keys " + loose, "--api-keys: " + loose + " has mode 0644: others than its owner may use it; chmod 600 it", exitUsage},
		{"--api-keys /nowhere/keys", "--api-keys: open /nowhere/keys: no such file", exitUsage},
		{"--admin-key-file " + keys, "--admin-key-file: " + keys + " must hold one key", exitUsage},
		{"--tls-cert x", "--tls-cert and --tls-key go together", exitUsage},
		{"--tls-cert /nowhere/c --tls-key /nowhere/k", "--tls-cert, --tls-key: open /nowhere/c", exitUsage},
	} {
		s := newStage(t)
		if code := s.run(append([]string{"serve", "--kv-memory", "64MiB"}, strings.Fields(c.args)...)...); code != c.code || !strings.Contains(s.err.String(), c.want) {
			t.Errorf("%s: exit %d, want %d and %q in\n%s", c.args, code, c.code, c.want, &s.err)
		}
	}
}
