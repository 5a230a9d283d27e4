//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// neighbour puts hostile rows and files beside a running program: rows and names that refer to other files, links to
// its file under its own names, and another user. The program sees all of it, others open and close the file, and
// then it is killed: what it had acknowledged is there, and other files are unchanged.
func neighbour(ctx context.Context, r *round) error {
	dir := r.dir("neighbour")
	path := filepath.Join(dir, "shop.db")
	n := &enemy{round: r, dir: dir, path: path, own: filepath.Join(dir, ".shop.db-stint")}
	seen := ends{}
	for range r.count {
		c, err := startChild("shop", path)
		if err != nil {
			return err
		}
		<-c.open
		err = errors.Join(n.act(ctx), n.visit(), n.worksOn(ctx, c), c.kill())
		if err == nil {
			err = r.checkLedger(ctx, path, seen)
		}
		if err != nil {
			return err
		}
		n.checkPrecious()
		r.faults++
	}
	for _, link := range n.links {
		os.Remove(link)
	}
	return r.settled(ctx, path)
}

// An enemy is a hostile neighbour, with what it puts beside the file.
type enemy struct {
	*round
	dir, path, own string
	mark           string
	links          []string
	precious       []string
}

const preciousText = "precious"

// act does everything once, in an order and with names that the seed gives, and returns when
// the program has looked at it.
func (n *enemy) act(ctx context.Context) error {
	if n.mark == "" {
		if err := n.findMark(); err != nil {
			return err
		}
	}
	acts := []func(name string) error{n.plantFile, n.plantSymlink, n.plantHardLink, n.plantPipe, n.plantDirectory, n.plantRow,
		n.plantStaged}
	n.rng.Shuffle(len(acts), func(i, j int) { acts[i], acts[j] = acts[j], acts[i] })
	for _, act := range acts {
		if err := act(n.name()); err != nil {
			return err
		}
	}
	if err := n.stranger(ctx); err != nil {
		return err
	}
	// A presence whose owner is dead: the program removes it when it has looked at the rest.
	last := filepath.Join(n.own, n.mark+"ffffffffffffffff")
	if err := os.WriteFile(last, nil, 0o600); err != nil {
		return err
	}
	for ; ctx.Err() == nil; wait(ctx, 5*time.Millisecond) {
		if _, err := os.Lstat(last); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	return ctx.Err()
}

// findMark finds what the names of the program's presences begin with, while there is nothing
// else beside them.
func (n *enemy) findMark() error {
	entries, err := os.ReadDir(n.own)
	if err != nil || len(entries) == 0 {
		return errors.Join(errors.New("the program has no presence"), err)
	}
	n.mark = entries[0].Name()[:16]
	return nil
}

// name is a new one of those that a program that trusts names would take for its own.
func (n *enemy) name() string {
	id := fmt.Sprintf("%016x", n.rng.Uint64()>>1)
	all := []string{
		filepath.Join(n.own, n.mark+id), filepath.Join(n.own, id+id), filepath.Join(n.own, ".new-"+n.mark+id), n.path + "-stint-" + id,
		n.path + "-stint-" + id + id,
		filepath.Join(n.dir, id),
	}
	return all[n.rng.IntN(len(all))]
}

func (n *enemy) plantFile(string) error { // in the directory of presences all regular files are the program's
	name := filepath.Join(n.dir, fmt.Sprintf("shop.db-stint-%016x", n.rng.Uint64()))
	n.precious = append(n.precious, name)
	return os.WriteFile(name, []byte(preciousText), 0o600)
}

func (n *enemy) plantSymlink(name string) error  { return n.link(name, os.Symlink) }
func (n *enemy) plantHardLink(name string) error { return n.link(name, os.Link) }

func (n *enemy) link(name string, link func(of, name string) error) error {
	n.links = append(n.links, name)
	of := n.path
	if len(n.precious) > 0 && n.rng.IntN(3) == 0 {
		of = n.precious[n.rng.IntN(len(n.precious))]
	}
	return link(of, name)
}

func (n *enemy) plantPipe(name string) error {
	n.links = append(n.links, name)
	return syscall.Mkfifo(name, 0o600)
}

func (n *enemy) plantDirectory(name string) error {
	n.links = append(n.links, name)
	return os.Mkdir(name, 0o700)
}

// lock is what a row may name: a file of somebody's, the database, or nothing.
func (n *enemy) lock() string {
	all := append([]string{"", ".", "..", "/", "shop.db", "../shop.db", n.path}, n.precious...)
	lock := all[n.rng.IntN(len(all))]
	if n.rng.IntN(2) == 0 {
		lock = filepath.Base(lock)
	}
	return lock
}

func (n *enemy) plantRow(string) error {
	return n.exec(`INSERT INTO stint_workers (name, lock, pid, host, slots, queues, labels, build, started_at)
		VALUES ('evil', ?, 1, 'h', 1, '[]', '{}', 'b', 1)`, n.lock())
}

func (n *enemy) plantStaged(string) error {
	return n.exec("INSERT INTO stint_lanes (queue, task, staged) VALUES ('evil', 'evil', ?)", n.lock()+":1")
}

func (n *enemy) exec(query string, args ...any) error {
	return inDatabase(n.path, func(db *sql.DB) error {
		_, err := db.Exec("PRAGMA busy_timeout = 10000")
		if err == nil {
			_, err = db.Exec(query, args...)
		}
		return err
	})
}

// strangerScript is what another user tries in a directory where everybody may make files. It
// prints what it should not be able to do.
const strangerScript = `
cat "$1" > /dev/null 2>&1 && echo reads the file
cat "$1-wal" > /dev/null 2>&1 && echo reads the log
(echo x >> "$1") 2> /dev/null && echo writes the file
ls "$2" > /dev/null 2>&1 && echo lists the presences
(echo x > "$2/0123456789abcdef0123456789abcdef") 2> /dev/null && echo makes a presence
rm -f "$1" "$1-wal" "$1-shm" 2> /dev/null && echo removes the file
mv "$2" "$2.away" 2> /dev/null && echo moves the presences
echo x > "$1-stint-stranger-$$" || echo cannot even make a file of its own
exit 0`

// stranger runs the script as another user. Only root can.
func (n *enemy) stranger(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return nil
	}
	if err := os.Chmod(n.dir, 0o777|fs.ModeSticky); err != nil {
		return err
	}
	for dir := filepath.Dir(n.dir); dir != "/"; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err == nil && info.Mode().Perm()&0o001 == 0 {
			err = os.Chmod(dir, info.Mode().Perm()|0o011)
		}
		if err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", strangerScript, "sh", n.path, n.own)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if len(out) > 0 {
		n.verdict.problem("another user: %s", out)
	}
	return err
}

// visit opens the file and closes it, as other programs that come and go: were the program's
// locks gone, the first would take its log with it.
func (n *enemy) visit() error {
	err := inDatabase(n.path, func(db *sql.DB) error {
		var runs int
		return db.QueryRow("SELECT count(*) FROM stint_runs").Scan(&runs)
	})
	if err != nil {
		return err
	}
	s, err := openShop(n.path)
	if err != nil {
		return err
	}
	return s.c.Close()
}

// worksOn returns when the program has acknowledged more, or has ended.
func (n *enemy) worksOn(ctx context.Context, c *child) error {
	ended := make(chan struct{})
	go func() { c.wait(); close(ended) }()
	size := func() int64 {
		info, err := os.Stat(n.path + ".ledger")
		if err != nil {
			return 0
		}
		return info.Size()
	}
	for had := size(); size() == had; wait(ctx, 5*time.Millisecond) {
		select {
		case <-ended:
			return errors.New("the program has ended by itself")
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
	}
	return nil
}

// checkPrecious checks that files that are not the program's are unchanged.
func (n *enemy) checkPrecious() {
	for _, name := range n.links {
		if _, err := os.Lstat(name); err != nil {
			n.verdict.problem("what is no presence was taken for one: %v", err)
		}
	}
	for _, name := range n.precious {
		if b, err := os.ReadFile(name); err != nil || string(b) != preciousText {
			n.verdict.problem("%s: %q, %v", name, b, err)
		}
	}
}
