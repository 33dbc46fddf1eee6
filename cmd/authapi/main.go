// Command authapi is the token service and the tool to administer it.
//
// This file finds the subcommand. Each has a file of its own; what they share
// is the configuration (config.go) and the stores that it leads to
// (service.go).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/authapi/authapi/internal/redisconn"
)

func main() {
	// The second signal is not caught: it ends the program at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, program{
		args:    os.Args[1:],
		environ: os.Environ(),
		stdin:   os.Stdin,
		stdout:  os.Stdout,
		stderr:  os.Stderr,
	}))
}

// program is the world as a subcommand sees it.
type program struct {
	args, environ  []string
	stdin          *os.File
	stdout, stderr io.Writer
}

// command is one subcommand. Its name may be two words.
type command struct {
	name, args, does string
	run              func(ctx context.Context, p program) error
}

// commands returns the table; a variable would refer to itself through help.
func commands() []command {
	return []command{
		{"serve", "", "serve HTTP (the default)", serve},
		{"check", "", "say whether configuration, Redis, clock and keys are in order", check},
		{"user add", "<name> [role...]", "add a user; the password is asked for, or read from stdin", userAdd},
		{"user list", "", "list the users", userList},
		{"user disable", "<name>", "refuse a user's logins and end all sessions", userDisable},
		{"user enable", "<name>", "let a user log in again", userEnable},
		{"user set-password", "<name>", "change a password and end all sessions", userSetPassword},
		{"user set-roles", "<name> [role...]", "replace a user's roles; sessions show them at their next refresh", userSetRoles},
		{"sessions list", "<name|sub:subject>", "list a user's sessions", sessionsList},
		{"sessions end", "<name|sub:subject>", "end all sessions of a user", sessionsEnd},
		{"keys list", "", "list the signing keys", keysList},
		{"keys rotate", "", "let a new key sign, as soon as all verifiers can know it", keysRotate},
		{"keys drop", "<key>", "refuse all tokens of a key at once (emergency)", keysDrop},
		{"keys reseal", "", "seal the signing keys under the first secret", keysReseal},
		{"client hash-secret", "", "hash a client's secret for the clients file; it is asked for, or read from stdin", clientHashSecret},
		{hashCommand, "", "", hashPasswords},
		{"version", "", "print the version", printVersion},
		{"help", "", "print this", help},
	}
}

// errUsage means that the arguments make no sense. Its text has been printed.
var errUsage = errors.New("usage")

func run(ctx context.Context, p program) int {
	// The Redis library would write to standard error by itself. Only serve
	// has a log to put that into.
	redisconn.SetLogger(nil)
	c, args, err := find(p.args)
	if err == nil {
		p.args = args
		err = c.run(ctx, p)
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		_ = help(ctx, p)
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(p.stderr, "authapi: %v\nTry: authapi help\n", err)
		return 2
	default:
		fmt.Fprintf(p.stderr, "authapi: %v\n", err)
		return 1
	}
}

// find returns the subcommand that the arguments name, and the rest of them.
func find(args []string) (command, []string, error) {
	all := commands()
	if len(args) == 0 {
		return all[0], nil, nil
	}
	switch args[0] {
	case "-version", "--version":
		args = append([]string{"version"}, args[1:]...)
	case "-h", "-help", "--help":
		return command{run: help}, nil, nil
	}
	if strings.HasPrefix(args[0], "-") {
		return all[0], args, nil
	}
	for _, c := range all {
		words := strings.Fields(c.name)
		if len(args) >= len(words) && strings.Join(args[:len(words)], " ") == c.name {
			return c, args[len(words):], nil
		}
	}
	return command{}, nil, fmt.Errorf("%w: there is no command %q", errUsage, strings.Join(args[:min(2, len(args))], " "))
}

func help(_ context.Context, p program) error {
	fmt.Fprint(p.stdout, "authapi is a self-hosted token service.\n\nCommands:\n")
	for _, c := range commands() {
		if c.does == "" {
			continue // not for people
		}
		fmt.Fprintf(p.stdout, "  %-46s %s\n", strings.TrimSpace("authapi "+c.name+" "+c.args), c.does)
	}
	fmt.Fprintln(p.stdout)
	configUsage(p.stdout)
	return nil
}

func printVersion(_ context.Context, p program) error {
	fmt.Fprintln(p.stdout, "authapi", version())
	return nil
}

// version is what the Go toolchain noted when it built this program.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && !strings.Contains(v, s.Value[:min(12, len(s.Value))]) {
			v += " " + s.Value
		}
	}
	return v
}

// config reads the configuration for a subcommand that takes between least and
// most arguments after its flags.
func (p program) config(least, most int) (config, []string, error) {
	c, rest, err := loadConfig(p.args, p.environ, os.ReadFile, isTerminal(p.stderr))
	if err != nil {
		return config{}, nil, err
	}
	if len(rest) < least || len(rest) > most {
		return config{}, nil, fmt.Errorf("%w: wrong number of arguments; flags go before them", errUsage)
	}
	// A misplaced flag would become a role, and the password that somebody
	// puts behind --password another one, which tokens then show.
	for _, arg := range rest[min(1, len(rest)):] {
		if strings.HasPrefix(arg, "-") {
			return config{}, nil, fmt.Errorf("%w: an argument behind the name begins with a dash; flags go before the name", errUsage)
		}
	}
	return c, rest, nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
