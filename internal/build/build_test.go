package build

import (
	"runtime/debug"
	"testing"
)

func TestVersionIn(t *testing.T) {
	app := debug.Module{Path: "example.org/app", Version: "v9.0.0"}
	for name, c := range map[string]struct {
		info debug.BuildInfo
		want string
	}{
		"the command":         {debug.BuildInfo{Main: debug.Module{Path: Module, Version: "v1.2.3"}}, "v1.2.3"},
		"an app":              {debug.BuildInfo{Main: app, Deps: []*debug.Module{{Path: Module, Version: "v1.2.3"}}}, "v1.2.3"},
		"another module":      {debug.BuildInfo{Main: app, Deps: []*debug.Module{{Path: Module + "/hatchet", Version: "v1.2.3"}}}, "(devel)"},
		"a test":              {debug.BuildInfo{Main: debug.Module{Path: Module}}, "(devel)"},
		"replaced by a fork":  {required(&debug.Module{Path: "example.org/fork", Version: "v1.2.4"}), "v1.2.4"},
		"replaced by a clone": {required(&debug.Module{Path: "../stint"}), "(devel)"},
	} {
		if got := versionIn(&c.info); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func required(by *debug.Module) debug.BuildInfo {
	return debug.BuildInfo{Main: debug.Module{Path: "example.org/app"}, Deps: []*debug.Module{{Path: Module, Version: "v1.2.3", Replace: by}}}
}
