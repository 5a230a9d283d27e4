package failure

import (
	"encoding/json"
	"errors"
	"reflect"
	"sync"

	"github.com/stint-dev/stint/internal/guard"
)

// registered has the types given to Register.
var registered struct {
	sync.RWMutex
	names map[reflect.Type]string
	reads map[string]func([]byte) (error, error)
}

// Register makes errors of a type survive being stored. read returns one from its JSON. It returns an error if the name or
// the type is registered with another.
func Register(t reflect.Type, name string, read func([]byte) (error, error)) error {
	registered.Lock()
	defer registered.Unlock()
	if registered.names == nil {
		registered.names, registered.reads = map[reflect.Type]string{}, map[string]func([]byte) (error, error){}
	}
	if had, known := registered.names[t]; known != (registered.reads[name] != nil) || known && had != name {
		return errors.New("the name or the type is registered with another")
	}
	registered.names[t], registered.reads[name] = name, read
	return nil
}

// registeredValue returns the name and the JSON of an error of a registered type, if it can be
// read again from that.
func registeredValue(err error) (name string, value json.RawMessage) {
	registered.RLock()
	name = registered.names[reflect.TypeOf(err)]
	read := registered.reads[name]
	registered.RUnlock()
	if read == nil {
		return "", nil
	}
	var merr error
	p := guard.Call(func() {
		if value, merr = json.Marshal(err); merr == nil {
			_, merr = read(value)
		}
	})
	if p != nil || merr != nil || len(value) > maxValue || string(value) == "null" {
		return "", nil
	}
	return name, value
}

// readRegistered returns the value of a registered type; nil if this program cannot read it.
func readRegistered(k *Known) error {
	registered.RLock()
	read := registered.reads[k.Type]
	registered.RUnlock()
	if read == nil {
		return nil
	}
	var value, err error
	if p := guard.Call(func() { value, err = read(k.Value) }); p != nil || err != nil {
		return nil
	}
	return value
}
