module github.com/authapi/authapi/tests/jose

go 1.26.4

require (
	github.com/authapi/authapi v0.0.0-00010101000000-000000000000
	github.com/c2sp/wycheproof v0.0.0-20260902155932-3fa63dd0344a
	github.com/go-jose/go-jose/v4 v4.1.9
)

require github.com/golang-jwt/jwt/v5 v5.3.1 // indirect

replace github.com/authapi/authapi => ../..
