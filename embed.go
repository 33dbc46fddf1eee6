// Package authapi holds the API's contract. Programs are in cmd, and what a
// service imports to check access tokens is in verify.
package authapi

import _ "embed"

// OpenAPI is openapi.yaml, the description of all routes.
//
//go:embed openapi.yaml
var OpenAPI []byte
