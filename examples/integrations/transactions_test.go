package integrations

import (
	"context"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/examples/integrations/ent"
	"github.com/stint-dev/stint/examples/integrations/ent/migrate"
	"github.com/stint-dev/stint/examples/integrations/sqlc"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	gormsqlite "gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

func TestSQLC(t *testing.T) {
	s := newShop(t)
	queries := sqlc.New(s.db)
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

// The code was generated with the feature sql/execquery, or an ent.Tx would have no ExecContext.
func TestEnt(t *testing.T) {
	s := newShop(t)
	db := ent.NewClient(ent.Driver(entsql.OpenDB(dialect.SQLite, s.db)))
	if _, err := s.db.Exec("DROP TABLE orders"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // ent's migration makes the table, and leaves those of stint
		if err := db.Schema.Create(t.Context(), migrate.WithDropColumn(true), migrate.WithDropIndex(true)); err != nil {
			t.Fatal(err)
		}
	}
	s.inOneTransaction(t, func(ctx context.Context, item string, fail error) (*stint.Run[string], error) {
		tx, err := db.Tx(ctx)
		if err != nil {
			return nil, err
		}
		defer tx.Rollback()
		order, err := tx.Order.Create().SetItem(item).Save(ctx)
		if err != nil {
			return nil, err
		}
		run, err := s.confirm.Enqueue(ctx, int64(order.ID), stint.WithTx(tx))
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
