package cli

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/spf13/pflag"

	"mneme/internal/api/access"
	"mneme/internal/cli/keyfile"
	"mneme/internal/cli/usage"
	"mneme/internal/cli/value"
)

// accessFlags say who may ask a server, and how it proves who it is.
type accessFlags struct {
	apiKeys, adminKey string // files
	cert, key         string // files in PEM
}

func (f *accessFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.apiKeys, "api-keys", "", "`file` of who may use the server (mneme keys new makes its lines); without it only this machine may, without a key")
	flags.StringVar(&f.adminKey, "admin-key-file", "", "`file` with the administrator's key, which opens /metrics where there are keys")
	flags.StringVar(&f.cert, "tls-cert", "", "`file` with the certificate and those above it, in PEM: HTTPS instead of HTTP")
	flags.StringVar(&f.key, "tls-key", "", "`file` with the certificate's key, in PEM")
}

// entrance is where requests come in. SIGHUP has it read its files again.
type entrance struct {
	flags accessFlags
	addr  *net.TCPAddr
	gate  *access.Gate
	cert  atomic.Pointer[tls.Certificate] // nil: HTTP
	log   *slog.Logger
}

// openEntrance reads the files and finds the address, which without keys must be
// this machine's own.
func openEntrance(f accessFlags, addr value.Address, log *slog.Logger) (*entrance, error) {
	e := &entrance{flags: f, log: log}
	ring, err := e.read()
	if err != nil {
		return nil, &usage.Error{Err: err}
	}
	if e.addr, err = net.ResolveTCPAddr("tcp", string(addr)); err != nil {
		return nil, err
	}
	outside := !e.addr.IP.IsLoopback()
	switch {
	case outside && ring.Keys == nil:
		return nil, usage.Errorf("--addr %s: without --api-keys only this machine can be served (127.0.0.1, ::1, localhost): everybody who reaches another address could use the server", addr)
	case outside && e.cert.Load() == nil:
		log.Warn("API keys and conversations cross the network as they are; --tls-cert and --tls-key encrypt them", "addr", addr.String())
	}
	host, _, _ := net.SplitHostPort(string(addr))
	e.gate = access.NewGate(ring, host, nil)
	return e, nil
}

// read reads the files. The certificate is taken only when all of them are good.
func (e *entrance) read() (ring access.Ring, err error) {
	f := e.flags
	if f.apiKeys != "" {
		if ring.Keys, err = keyfile.Read(f.apiKeys); err != nil {
			return ring, fmt.Errorf("--api-keys: %w", err)
		}
	}
	if f.adminKey != "" {
		if ring.Admin, err = keyfile.ReadAdmin(f.adminKey); err != nil {
			return ring, fmt.Errorf("--admin-key-file: %w", err)
		}
	}
	switch {
	case f.cert == "" && f.key == "":
		return ring, nil
	case f.cert == "" || f.key == "":
		return ring, fmt.Errorf("--tls-cert and --tls-key go together")
	}
	cert, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return ring, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	e.cert.Store(&cert)
	return ring, nil
}

// listen takes the address.
func (e *entrance) listen() (net.Listener, error) { return net.ListenTCP("tcp", e.addr) }

// url is the server as clients write it.
func (e *entrance) url(at net.Addr) string {
	url := value.Address(at.String()).URL()
	if e.cert.Load() != nil {
		url = "https" + strings.TrimPrefix(url, "http")
	}
	return url
}

// serve answers what comes in until the server is shut down.
func (e *entrance) serve(server *http.Server, l net.Listener) error {
	if e.cert.Load() == nil {
		return server.Serve(l)
	}
	server.TLSConfig = &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return e.cert.Load(), nil },
	}
	return server.ServeTLS(l, "", "")
}

// watch reads the files again whenever SIGHUP comes, until stop, which waits.
// Without files a hang-up ends the process, as ever.
func (e *entrance) watch() (stop func()) {
	if e.flags == (accessFlags{}) {
		return func() {}
	}
	hangups, over := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		defer close(over)
		for range hangups {
			e.reload()
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(hangups)
		<-over
	}
}

// reload takes what the files say now; where one is broken all stays as it was.
func (e *entrance) reload() {
	ring, err := e.read()
	if err != nil {
		e.log.Error("the files of keys and certificates are not read again; the old ones hold", "error", err)
		return
	}
	e.gate.Change(ring)
	e.log.Info("read the files of keys and certificates again", "keys", len(ring.Keys))
}
