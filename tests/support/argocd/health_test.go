// Package argocd runs the health checks for Argo CD as Argo CD runs those of its users: in its Lua interpreter, with no
// more than the libraries base and table.
package argocd

import (
	"os"
	"path/filepath"
	"testing"

	lua "github.com/yuin/gopher-lua"
	"sigs.k8s.io/yaml"
)

type health struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

// healthTests is what a health_test.yaml holds.
type healthTests struct {
	Tests []struct {
		InputPath    string `json:"inputPath"`
		HealthStatus health `json:"healthStatus"`
	} `json:"tests"`
}

func TestHealthChecks(t *testing.T) {
	scripts, err := filepath.Glob("../../../deploy/argocd/resource_customizations/*/*/health.lua")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no health checks found", err)
	}
	for _, script := range scripts {
		folder := filepath.Dir(script)
		var suite healthTests
		read(t, filepath.Join(folder, "health_test.yaml"), &suite)
		inputs, err := filepath.Glob(filepath.Join(folder, "testdata", "*.yaml"))
		if err != nil || len(inputs) != len(suite.Tests) {
			t.Errorf("%s: %d tests for %d files in testdata %v", folder, len(suite.Tests), len(inputs), err)
		}
		for _, test := range suite.Tests {
			t.Run(test.InputPath, func(t *testing.T) {
				var resource map[string]any
				read(t, filepath.Join(folder, test.InputPath), &resource)
				if got := run(t, script, resource); got != test.HealthStatus {
					t.Errorf("is\n  %+v, expected\n  %+v", got, test.HealthStatus)
				}
			})
		}
	}
}

func run(t *testing.T, script string, resource map[string]any) health {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	lua.OpenBase(state)
	lua.OpenTable(state)
	state.SetTop(0)
	state.SetGlobal("obj", value(state, resource))
	if err := state.DoFile(script); err != nil {
		t.Fatal(err)
	}
	result, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		t.Fatal("the script returned no table")
	}
	return health{lua.LVAsString(result.RawGetString("status")), lua.LVAsString(result.RawGetString("message"))}
}

// value makes a Lua value of a JSON value.
func value(state *lua.LState, json any) lua.LValue {
	switch json := json.(type) {
	case bool:
		return lua.LBool(json)
	case float64:
		return lua.LNumber(json)
	case string:
		return lua.LString(json)
	case []any:
		table := state.NewTable()
		for _, item := range json {
			table.Append(value(state, item))
		}
		return table
	case map[string]any:
		table := state.NewTable()
		for key, item := range json {
			table.RawSetString(key, value(state, item))
		}
		return table
	default:
		return lua.LNil
	}
}

func read(t *testing.T, path string, into any) {
	text, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(path, err)
	}
}
