package integrations

import (
	"context"
	"database/sql"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/stint-dev/stint"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	gormsqlite "gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// A DBTX and a Queries are as sqlc generates them for database/sql.
type DBTX interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
	PrepareContext(context.Context, string) (*sql.Stmt, error)
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
	QueryRowContext(context.Context, string, ...any) *sql.Row
}

type Queries struct{ db DBTX }

func New(db DBTX) *Queries { return &Queries{db: db} }

func (q *Queries) WithTx(tx *sql.Tx) *Queries { return &Queries{db: tx} }

const createOrder = `-- name: CreateOrder :one
INSERT INTO orders (item) VALUES (?) RETURNING id, item`

func (q *Queries) CreateOrder(ctx context.Context, item string) (Order, error) {
	row := q.db.QueryRowContext(ctx, createOrder, item)
	var i Order
	err := row.Scan(&i.ID, &i.Item)
	return i, err
}

func TestSQLC(t *testing.T) {
	s := newShop(t)
	queries := New(s.db)
	s.inOneTransaction(t, func(ctx context.Context, item string, fail error) (*stint.Run[string], error) {
		tx, err := s.db.BeginTx(ctx, nil)
		if err != nil {
			return nil, err
		}
		defer tx.Rollback()
		order, err := queries.WithTx(tx).CreateOrder(ctx, item)
		if err != nil {
			return nil, err
		}
		run, err := s.confirm.Enqueue(ctx, order.ID, stint.WithTx(tx))
		if err != nil || fail != nil {
			return nil, errorOr(err, fail)
		}
		return run, tx.Commit()
	})
}

func TestGORM(t *testing.T) {
	for name, config := range map[string]*gorm.Config{"plain": {}, "prepared": {PrepareStmt: true}} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			config.Logger = logger.Discard
			db, err := gorm.Open(gormsqlite.Dialector{Conn: s.db}, config) // on stint's driver: see docs/integrations.md
			if err != nil {
				t.Fatal(err)
			}
			s.inOneTransaction(t, func(ctx context.Context, item string, fail error) (run *stint.Run[string], err error) {
				err = db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
					order := Order{Item: item}
					if err := tx.Create(&order).Error; err != nil {
						return err
					}
					run, err = s.confirm.Enqueue(ctx, order.ID, stint.WithTx(tx.Statement.ConnPool))
					return errorOr(err, fail)
				})
				return run, err
			})
		})
	}
}

func TestBun(t *testing.T) {
	s := newShop(t)
	db := bun.NewDB(s.db, sqlitedialect.New())
	s.inOneTransaction(t, func(ctx context.Context, item string, fail error) (run *stint.Run[string], err error) {
		err = db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
			order := Order{Item: item}
			if _, err := tx.NewInsert().Model(&order).Exec(ctx); err != nil {
				return err
			}
			run, err = s.confirm.Enqueue(ctx, order.ID, stint.WithTx(tx.Tx)) // bun.Tx writes arguments into statements
			return errorOr(err, fail)
		})
		return run, err
	})
}

// What ent generates with the feature sql/execquery has the methods of entsql.Tx.
func TestEnt(t *testing.T) {
	s := newShop(t)
	driver := entsql.OpenDB(dialect.SQLite, s.db)
	s.inOneTransaction(t, func(ctx context.Context, item string, fail error) (*stint.Run[string], error) {
		dtx, err := driver.Tx(ctx)
		if err != nil {
			return nil, err
		}
		tx := dtx.(*entsql.Tx)
		defer tx.Rollback()
		query, args := entsql.Dialect(dialect.SQLite).Insert("orders").Columns("item").Values(item).Query()
		res, err := tx.ExecContext(ctx, query, args...)
		if err != nil {
			return nil, err
		}
		id, err := res.LastInsertId()
		if err != nil {
			return nil, err
		}
		run, err := s.confirm.Enqueue(ctx, id, stint.WithTx(tx))
		if err != nil || fail != nil {
			return nil, errorOr(err, fail)
		}
		return run, tx.Commit()
	})
}

func errorOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}
