// Package integrations tests stint beside the libraries that apps use with it: transactions of sqlc, GORM, bun and ent on the same
// SQLite file, routers that serve the page, and handlers of slog. docs/integrations.md shows how each is used.
//
// The packages sqlc and ent are as these tools write them from sqlc/*.sql and ent/schema.
package integrations

//go:generate go run github.com/sqlc-dev/sqlc/cmd/sqlc@v1.31.1 generate -f sqlc/sqlc.yaml
//go:generate go run entgo.io/ent/cmd/ent@v0.14.5 generate --feature sql/execquery ./ent/schema
