// Package integrations tests stint beside the libraries that apps use with it: transactions of sqlc, GORM, bun and ent on the same
// SQLite file, routers that serve the page, and handlers of slog. docs/integrations.md shows how each is used.
package integrations
