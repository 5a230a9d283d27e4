-- name: CreateOrder :one
INSERT INTO orders (item) VALUES (?) RETURNING *;
