package api

import (
	"slices"
	"strings"

	"github.com/authapi/authapi/refresh"
)

// scopeField is the parameter that says what an access token, or a session,
// should be good for. What is wrong with it is for parseScope to say.
func scopeField(into *string) field {
	return field{"scope", into, maxBody, false}
}

// parseScope reads the words of a scope (RFC 6749, section 3.3), one of each. It
// refuses what is longer than any session's.
func parseScope(text string) ([]string, error) {
	switch {
	case text == "":
		return nil, nil
	case len(text) > refresh.MaxScope:
		return nil, errScope
	}
	var words []string
	for word := range strings.SplitSeq(text, " ") {
		if !isPlain(word) {
			return nil, errScope
		}
		if !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	return words, nil
}

// granted is what a session's token gets of a scope: what its client still has.
// If the client is not known here, all of it: another instance may know it.
func (a *API) granted(scope, clientID string) string {
	client, known := a.config.Clients[clientID]
	if !known {
		return scope
	}
	var kept []string
	for word := range strings.FieldsSeq(scope) {
		if slices.Contains(client.Scopes, word) {
			kept = append(kept, word)
		}
	}
	return strings.Join(kept, " ")
}
