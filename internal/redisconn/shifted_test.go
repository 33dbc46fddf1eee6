package redisconn_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/redisconn"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/internal/script"
)

// shifting is a server some of whose connections answer each request with the
// reply to the one before. A script's reply is its first key and its argument.
type shifting struct {
	addr    string
	cluster bool
	toShift atomic.Int64 // so many connections will shift at their next reply
	shifted atomic.Int64 // connections that have
	served  atomic.Int64 // requests that came on such a connection afterwards
	opened  atomic.Int64
	scripts atomic.Int64 // that came
}

func newShifting(t *testing.T, cluster bool, config *tls.Config) *shifting {
	s := &shifting{cluster: cluster}
	l := listen(t)
	s.addr = l.Addr().String()
	var accept net.Listener = l
	if config != nil {
		accept = tls.NewListener(l, config)
	}
	go func() {
		for {
			c, err := accept.Accept()
			if err != nil {
				return
			}
			s.opened.Add(1)
			go s.serve(c)
		}
	}()
	return s
}

func (s *shifting) serve(c net.Conn) {
	defer c.Close()
	var last string
	shifted := false
	r := bufio.NewReader(c)
	for {
		args, err := readCommand(r)
		if err != nil {
			return
		}
		if shifted {
			s.served.Add(1)
		}
		reply := s.reply(args)
		if last != "" && !shifted && s.toShift.Load() > 0 && s.toShift.Add(-1) >= 0 {
			shifted = true
			s.shifted.Add(1)
		}
		if shifted {
			reply, last = last, reply
		} else {
			last = reply
		}
		if _, err := io.WriteString(c, reply); err != nil {
			return
		}
	}
}

func (s *shifting) reply(args []string) string {
	bulk := func(text string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(text), text) }
	switch strings.ToLower(args[0]) {
	case "hello":
		return "%1\r\n+proto\r\n:3\r\n"
	case "info":
		return bulk(map[bool]string{false: "cluster_enabled:0\r\n", true: "cluster_enabled:1\r\n"}[s.cluster])
	case "cluster":
		host, port, _ := net.SplitHostPort(s.addr)
		return "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n" + bulk(host) + ":" + port + "\r\n" + bulk(strings.Repeat("0", 40))
	case "evalsha", "eval":
		s.scripts.Add(1)
		if args[1] == "unknown" {
			return "-NOSCRIPT No matching script.\r\n"
		}
		return "*2\r\n" + bulk(args[3]) + bulk(args[4])
	case "echo":
		return bulk(args[1])
	case "get":
		return bulk("value of " + args[1])
	}
	return "+OK\r\n"
}

// tlsPair returns the configurations of a server and of its clients.
func tlsPair(t *testing.T) (server, client *tls.Config) {
	s := httptest.NewTLSServer(nil)
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return &tls.Config{Certificates: s.TLS.Certificates}, &tls.Config{RootCAs: roots}
}

func TestRow41ShiftedConnectionIsNotUsedAgain(t *testing.T) {
	ask := map[string]func(redis.UniversalClient, string) error{
		"script": func(c redis.UniversalClient, text string) error {
			reply, err := c.EvalSha(t.Context(), "sha", []string{text}, text).StringSlice()
			if err == nil && (reply[0] != text || reply[1] != text) {
				err = fmt.Errorf("asked for %s, got %q", text, reply)
			}
			return err
		},
		"pipeline": func(c redis.UniversalClient, text string) error {
			pipe := c.Pipeline()
			echo, get := pipe.Echo(t.Context(), text), pipe.Get(t.Context(), text)
			_, err := pipe.Exec(t.Context())
			if err == nil && (echo.Val() != text || get.Val() != "value of "+text) {
				err = fmt.Errorf("asked for %s, got %q and %q", text, echo.Val(), get.Val())
			}
			return err
		},
		// What EVALSHA is answered must not be what EVAL is.
		"unknown script": func(c redis.UniversalClient, text string) error {
			_ = c.EvalSha(t.Context(), "unknown", []string{text}, text).Err()
			reply, err := c.Eval(t.Context(), "known", []string{text}, text).StringSlice()
			if err == nil && (reply[0] != text || reply[1] != text) {
				err = fmt.Errorf("asked for %s, got %q", text, reply)
			}
			return err
		},
		"checked": func(c redis.UniversalClient, text string) error {
			var get *redis.StringCmd
			err := script.AskFor(t.Context(), c, text, func(pipe redis.Pipeliner) { get = pipe.Get(t.Context(), text) })
			if err == nil && get.Val() != "value of "+text {
				err = fmt.Errorf("asked for %s, got %q", text, get.Val())
			}
			return err
		},
		"one connection": func(c redis.UniversalClient, text string) error {
			client, ok := c.(*redis.Client)
			if !ok {
				var err error
				if client, err = c.(*redis.ClusterClient).MasterForKey(t.Context(), text); err != nil {
					return err
				}
			}
			// What goes over one connection cannot go on over another, but can be
			// begun again.
			var err error
			for range 10 {
				conn := client.Conn()
				var reply []string
				reply, err = conn.EvalSha(t.Context(), "sha", []string{text}, text).StringSlice()
				conn.Close()
				if err == nil && (reply[0] != text || reply[1] != text) {
					return fmt.Errorf("asked for %s, got %q", text, reply)
				}
				if err == nil {
					return nil
				}
			}
			return fmt.Errorf("no attempt succeeded: %w", err)
		},
	}
	serverTLS, clientTLS := tlsPair(t)
	for kind, k := range map[string]struct {
		cluster bool
		tls     *tls.Config
		scheme  string
	}{
		"standalone": {false, nil, "redis://"},
		"TLS":        {false, serverTLS, "rediss://"},
		"cluster":    {true, nil, "redis://"},
	} {
		for how, ask := range ask {
			t.Run(kind+"/"+how, func(t *testing.T) {
				s := newShifting(t, k.cluster, k.tls)
				var told atomic.Int64
				client := open(t, k.scheme+s.addr, redisconn.Options{PoolSize: 8, TLS: clientTLS, Shifted: func() { told.Add(1) }})
				all := func(round int) {
					var askers sync.WaitGroup
					for n := range 8 {
						askers.Go(func() {
							for i := range 50 {
								if err := ask(client, fmt.Sprintf("%d.%d.%d", round, n, i)); err != nil {
									t.Error(err)
									return
								}
							}
						})
					}
					askers.Wait()
				}
				all(0)
				if told.Load() != 0 {
					t.Errorf("%d alarms before anything happened", told.Load())
				}
				for round := range 3 {
					s.toShift.Store(1)
					all(round + 1)
				}
				if s.shifted.Load() != 3 || told.Load() < 1 {
					t.Errorf("%d connections shifted, %d alarms", s.shifted.Load(), told.Load())
				}
				before, opened := s.served.Load(), s.opened.Load()
				all(4)
				if after := s.served.Load(); after != before {
					t.Errorf("%d requests on shifted connections when that was known", after-before)
				}
				if more := s.opened.Load() - opened; more > 8 {
					t.Errorf("%d connections were opened without a reason", more)
				}
			})
		}
	}
}

// Errors are replies of their own, and so are those of scripts that Redis does not
// know, of commands that it has none for, and of what does not repeat anything.
func TestRow41OtherRepliesAreNoAlarm(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		alarms := 0
		client := open(t, s.URL, redisconn.Options{Shifted: func() { alarms++ }})
		for n := range 3 {
			key := fmt.Sprint(s.Prefix, n)
			for range 2 {
				reply, err := script.New("return {KEYS[1], ARGV[1]}", script.OnFullRedis).Run(t.Context(), client, []string{key}, n)
				if err != nil || len(reply) != 1 || reply[0] != fmt.Sprint(n) {
					t.Errorf("replied %v, %v", reply, err)
				}
			}
			if err := client.EvalSha(t.Context(), "0123", []string{key}).Err(); !redis.HasErrorPrefix(err, "NOSCRIPT") {
				t.Error(err)
			}
			if err := client.Eval(t.Context(), "return redis.error_reply('no')", []string{key}).Err(); err == nil {
				t.Error("no error")
			}
			if err := client.Get(t.Context(), key).Err(); err != redis.Nil {
				t.Error(err)
			}
			pipe := client.Pipeline()
			wrong, echo := pipe.EvalSha(t.Context(), "0123", []string{key}), pipe.Echo(t.Context(), key)
			_, _ = pipe.Exec(t.Context())
			if !redis.HasErrorPrefix(wrong.Err(), "NOSCRIPT") || echo.Val() != key {
				t.Errorf("got %v, %q", wrong.Err(), echo.Val())
			}
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := client.Echo(gone, "x").Err(); err == nil {
			t.Error("no error")
		}
		if alarms > 0 {
			t.Errorf("%d alarms", alarms)
		}
	})
}

// A server all of whose connections shift gets an error, and no reply is taken
// for another's.
func TestRow41NothingIsBelievedIfAllConnectionsShift(t *testing.T) {
	for kind, cluster := range map[string]bool{"standalone": false, "cluster": true} {
		t.Run(kind, func(t *testing.T) {
			s := newShifting(t, cluster, nil)
			client := open(t, "redis://"+s.addr, redisconn.Options{PoolSize: 4})
			failed := 0
			s.toShift.Store(1e6)
			for i := range 20 {
				text := fmt.Sprint(i)
				before := s.scripts.Load()
				reply, err := client.EvalSha(t.Context(), "sha", []string{text}, text).StringSlice()
				if err == nil && reply[1] != text {
					t.Errorf("asked for %s, got %q", text, reply)
				}
				if sent := s.scripts.Load() - before; sent > 3 {
					t.Errorf("one script was sent %d times", sent)
				}
				if err != nil && !errors.Is(err, script.ErrReply) {
					t.Error(err)
				}
				pipe := client.Pipeline()
				get, echo := pipe.Get(t.Context(), "a"+text), pipe.Echo(t.Context(), text)
				if _, pipeErr := pipe.Exec(t.Context()); pipeErr == nil && (get.Val() != "value of a"+text || echo.Val() != text) {
					t.Errorf("asked for %s, got %q and %q", text, get.Val(), echo.Val())
				} else if pipeErr != nil && get.Err() == nil {
					t.Error("a command of a pipeline whose replies were others' has no error")
				}
				if err != nil {
					failed++
				}
			}
			if failed == 0 {
				t.Error("nothing failed: did replies shift?")
			}
		})
	}
}
