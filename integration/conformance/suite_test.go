package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestReadChecks(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "server-tools-list-2026-11-22T08-06-45-196Z")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	checks := `[{"id":"a","status":"SUCCESS"},{"id":"b","status":"INFO"},{"id":"a","status":"FAILURE","errorMessage":"no"}]`
	if err := os.WriteFile(filepath.Join(folder, "checks.json"), []byte(checks), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readChecks(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []check{{"server-tools-list / a #1", "SUCCESS", ""}, {"server-tools-list / a #2", "FAILURE", "no"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestCompare(t *testing.T) {
	ok := check{"same", "SUCCESS", ""}
	tests := []struct {
		name            string
		direct, gateway []check
		differ          []string
		total           int
	}{
		{"same", []check{ok}, []check{ok}, nil, 1},
		{"none", nil, nil, nil, 0},
		{
			"each kind",
			[]check{ok, {"worse", "SUCCESS", ""}, {"gone", "SUCCESS", ""}},
			[]check{{"worse", "FAILURE", "why"}, {"new", "WARNING", "hm"}, ok},
			[]string{
				"worse: SUCCESS directly, FAILURE through the gateway: why",
				"gone: SUCCESS directly, not checked through the gateway",
				"new: not checked directly, WARNING through the gateway: hm",
			},
			4,
		},
	}
	for _, test := range tests {
		differ, total := compare(test.direct, test.gateway)
		if !slices.Equal(differ, test.differ) || total != test.total {
			t.Errorf("%s: got %q of %d, want %q of %d", test.name, differ, total, test.differ, test.total)
		}
	}
}
