package redisconn_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redisconn"
)

// startServer runs redis-server with a configuration file until the test ends.
// The kit (package redistest) has neither Sentinel nor TLS.
func startServer(t *testing.T, addr, config string, args ...string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "server.conf")
	if err := os.WriteFile(file, []byte("dir "+dir+"\n"+config), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("redis-server", append([]string{file}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	// The server dies with a test process that crashes. The kernel ties that
	// to the thread, so the thread is kept for as long as the server lives.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // fails only if it has ended
		<-ended
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("redis-server: %v\n%s", err, text)
		}
	}
}

func TestSentinel(t *testing.T) {
	redisAddr, sentinelAddr := closedPort(t), closedPort(t)
	redisPort, sentinelPort := redisAddr[strings.LastIndex(redisAddr, ":")+1:], sentinelAddr[strings.LastIndex(sentinelAddr, ":")+1:]
	startServer(t, redisAddr, "bind 127.0.0.1\nport "+redisPort+"\nsave \"\"\nrequirepass redis-password\n")
	startServer(t, sentinelAddr, "bind 127.0.0.1\nport "+sentinelPort+"\nrequirepass sentinel-password\n"+
		"sentinel monitor mymaster 127.0.0.1 "+redisPort+" 1\nsentinel auth-pass mymaster redis-password\n", "--sentinel")

	const credentials = "?sentinel_password=sentinel-password"
	client := open(t, "sentinel://:redis-password@"+closedPort(t)+","+sentinelAddr+"/mymaster"+credentials, redisconn.Options{})
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	r, found := inspect(t, client)
	if r.Mode != "sentinel" || r.Masters != 1 || r.Err() != nil {
		t.Errorf("report %+v, want mode sentinel, one master and nothing refused", r)
	}
	expect(t, found, "role", "ok")

	for _, rawURL := range []string{
		"sentinel://:redis-password@" + sentinelAddr + "/othermaster" + credentials,
		"sentinel://:redis-password@" + sentinelAddr + "/mymaster?sentinel_password=wrong-password",
		"sentinel://:wrong-password@" + sentinelAddr + "/mymaster" + credentials,
	} {
		_, err := redisconn.Open(t.Context(), rawURL, redisconn.Options{})
		if !errors.Is(err, redisconn.ErrUnreachable) {
			t.Errorf("Open(%s): %v; want ErrUnreachable", rawURL, err)
		}
		for _, password := range []string{"redis-password", "sentinel-password", "wrong-password"} {
			if strings.Contains(fmt.Sprint(err), password) {
				t.Errorf("the error shows a password: %v", err)
			}
		}
	}

	// The port of a Sentinel where that of a Redis belongs.
	_, found = inspect(t, open(t, "redis://:sentinel-password@"+sentinelAddr, redisconn.Options{}))
	expect(t, found, "role", "refuse", "sentinel://")
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert": {Type: "CERTIFICATE", Bytes: cert},
		"key":  {Type: "PRIVATE KEY", Bytes: pkcs8},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	addr := closedPort(t)
	_, port, _ := net.SplitHostPort(addr)
	startServer(t, addr, fmt.Sprintf("bind 127.0.0.1\nport 0\ntls-port %s\nsave \"\"\ntls-auth-clients no\n"+
		"tls-cert-file %[2]s/cert\ntls-key-file %[2]s/key\ntls-ca-cert-file %[2]s/cert\n", port, dir))

	roots := x509.NewCertPool()
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(parsed)
	given := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS10}
	client := open(t, "rediss://"+addr, redisconn.Options{TLS: given})
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
	if given.MinVersion != tls.VersionTLS10 {
		t.Error("Open changed the caller's configuration")
	}
	for name, c := range map[string]struct {
		url string
		tls *tls.Config
	}{
		"unknown issuer": {"rediss://" + addr, nil},
		"other name":     {"rediss://localhost:" + port, given},
		"TLS 1.1":        {"rediss://" + addr, &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS11}},
		"no TLS":         {"redis://" + addr, nil},
	} {
		if _, err := redisconn.Open(t.Context(), c.url, redisconn.Options{TLS: c.tls}); err == nil {
			t.Errorf("%s: connected", name)
		}
	}
}
