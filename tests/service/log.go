package service

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// Log is what an instance has logged: one JSON object a line. It remembers
// which secrets passed through the instance. It is safe for concurrent use.
type Log struct {
	mu      sync.Mutex
	text    bytes.Buffer
	secrets map[string]struct{}
}

// Write appends to the log.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// Records returns the lines so far.
func (l *Log) Records() []map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	var records []map[string]any
	for line := range bytes.Lines(l.text.Bytes()) {
		record := map[string]any{}
		if err := json.Unmarshal(line, &record); err != nil {
			record["malformed"] = string(line)
		}
		records = append(records, record)
	}
	return records
}

// Find returns the records with this message.
func (l *Log) Find(message string) []map[string]any {
	var found []map[string]any
	for _, record := range l.Records() {
		if record["msg"] == message {
			found = append(found, record)
		}
	}
	return found
}

// Secret adds a text that the log must not hold. Short ones are ignored: they
// would be found by chance.
func (l *Log) Secret(s string) {
	if len(s) < 8 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.secrets == nil {
		l.secrets = map[string]struct{}{}
	}
	l.secrets[s] = struct{}{}
}

// Secrets returns all secrets so far.
func (l *Log) Secrets() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]string, 0, len(l.secrets))
	for s := range l.secrets {
		all = append(all, s)
	}
	return all
}

// tokens looks for what every token begins with, in case one was never seen by
// the client. The second is {"alg": in base64.
var tokens = regexp.MustCompile(`authapi_(rt|dk)_|eyJhbGci`)

// Leaks returns what the log must not hold and does.
func (l *Log) Leaks() []string {
	secrets := l.Secrets()
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.text.String()
	var leaks []string
	if at := tokens.FindStringIndex(text); at != nil {
		leaks = append(leaks, fmt.Sprintf("a token: ...%q...", text[max(0, at[0]-200):min(len(text), at[1]+40)]))
	}
	for _, s := range secrets {
		if at := strings.Index(text, s); at >= 0 {
			leaks = append(leaks, fmt.Sprintf("a secret: ...%q...", text[max(0, at-200):min(len(text), at+len(s))]))
		}
	}
	return leaks
}
