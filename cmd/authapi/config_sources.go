package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/authapi/authapi/internal/spelling"
)

// serviceLink matches the variables that Kubernetes puts into every container
// for a Service named authapi or authapi-something.
var serviceLink = regexp.MustCompile(`^AUTHAPI_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// isServiceLink: the short form is told from someone's guess, such as
// AUTHAPI_PORT=8080, by its value.
func isServiceLink(name, value string) bool {
	return serviceLink.MatchString(name) || strings.HasSuffix(name, "_PORT") &&
		(strings.HasPrefix(value, "tcp://") || strings.HasPrefix(value, "udp://") || strings.HasPrefix(value, "sctp://"))
}

// fromEnviron collects our variables and refuses those that nobody reads: a
// misspelt name would otherwise be a setting silently lost.
func fromEnviron(table []setting, environ []string) (map[string]given, []error) {
	var names []string
	for _, s := range table {
		names = append(names, s.env)
		if s.file {
			names = append(names, s.env+"_FILE")
		}
	}
	found := make(map[string]given)
	var problems []error
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, "AUTHAPI_") || isServiceLink(name, value) {
			continue
		}
		known := false
		for _, n := range names {
			known = known || n == name
		}
		if !known {
			problems = append(problems, fmt.Errorf("%s: there is no such setting%s", name, didYouMean(name, names)))
			continue
		}
		found[name] = given{value, name}
	}
	return found, problems
}

// fromFlags parses the arguments. The keys of the result are the names of the
// variables that the flags stand for.
func fromFlags(table []setting, args []string) (map[string]given, []string, error) {
	found := make(map[string]given)
	var problems []error
	var names []string
	fs := flag.NewFlagSet("authapi", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	add := func(env, name string) {
		names = append(names, "--"+name)
		// The function never returns an error: package flag would quote the
		// value in its message.
		fs.Func(name, "", func(value string) error {
			if _, twice := found[env]; twice {
				problems = append(problems, fmt.Errorf("--%s: given twice", name))
			}
			found[env] = given{value, "--" + name}
			return nil
		})
	}
	for _, s := range table {
		if !s.secret {
			add(s.env, s.flag())
		}
		if s.file {
			add(s.env+"_FILE", s.flag()+"-file")
		}
	}
	err := fs.Parse(args)
	if err == nil {
		return found, fs.Args(), errors.Join(problems...)
	}
	if errors.Is(err, flag.ErrHelp) {
		return nil, nil, flag.ErrHelp
	}
	if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); ok {
		err = fmt.Errorf("--%s: there is no such flag%s", name, didYouMean("--"+name, names))
		for _, s := range table {
			if s.secret && name == s.flag() {
				err = fmt.Errorf("--%s: a secret does not belong on a command line, where every user of this machine can see it; use --%s-file or %s", name, name, s.env)
			}
		}
	}
	return nil, nil, errors.Join(append(problems, err)...)
}

func didYouMean(name string, names []string) string {
	if suggestion := spelling.Suggest(name, names); suggestion != "" {
		return suggestion
	}
	return "; see authapi help"
}
