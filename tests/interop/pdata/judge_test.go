package main

// The judge's own trial: it accepts what follows the rules, and each way of breaking them it names.

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/internal"
)

func trialRules(t *testing.T) *rules {
	t.Helper()
	number, name := int64(42), "gitlab-ci-runner"
	settings := settings{
		Keys:      []string{"ci.job.id", "service.name"},
		Prefixes:  []string{"gitlab."},
		Verified:  []attribute{{Key: "ci.job.id", Int: &number}, {Key: "service.name", Str: &name}},
		Trace:     strings.Repeat("ab", 16),
		DropEmpty: true,
	}
	rules, err := settings.rules()
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func signalOf(name string) *signal {
	return signals[slices.IndexFunc(signals, func(one *signal) bool { return strings.HasPrefix(name, one.name) })]
}

// rewritten does by hand what the gateway does. What reads the result can tell no difference, for
// pdata writes all that it knows.
func rewritten(t *testing.T, rules *rules, one *testCase) []byte {
	t.Helper()
	request, err := one.signal.raw(one.in)
	if err != nil {
		t.Fatal(err)
	}
	frame, err := readFrame(one.signal, one.in)
	if err != nil {
		t.Fatal(err)
	}
	if err := rules.edit(one, request, keptItems(frame, one)); err != nil {
		t.Fatal(err)
	}
	return written(request)
}

const unlimited = ^uint64(0)

// What follows the rules passes, with all options, for every signal.
func TestRewrittenSeedsPass(t *testing.T) {
	rules := trialRules(t)
	for name, seed := range seeds() {
		for _, flags := range []uint8{0, flagStripScope, flagStripItems, flagStripScope | flagStripItems} {
			for _, limits := range [][2]uint64{{unlimited, unlimited}, {100, unlimited}, {unlimited, 1}, {unlimited, 0}} {
				one := &testCase{signal: signalOf(name), flags: flags | flagAccepted | flagClean, maxItemSize: limits[0], budget: limits[1], in: seed}
				one.out = rewritten(t, rules, one)
				if _, err := rules.judge(one); err != nil {
					t.Errorf("%s with flags %b and limits %v: %v", name, flags, limits, err)
				}
			}
		}
	}
}

// Every way of breaking the rules is named, for every signal.
func TestBrokenRulesAreNamed(t *testing.T) {
	rules := trialRules(t)
	crimes := map[string]func(one *testCase){
		"under protected keys": func(one *testCase) { one.out = one.in },
		"names a protected key": func(one *testCase) {
			one.out = edited(t, one, func(entry *entry) { entry.resource.EntityRefs[0].DescriptionKeys = []string{"CI_job_id"} })
		},
		"more than the rules allow": func(one *testCase) {
			one.out = edited(t, one, func(entry *entry) { entry.resource.DroppedAttributesCount++ })
		},
		"more than the rules allow ": func(one *testCase) {
			one.out = edited(t, one, func(entry *entry) { entry.scopes[0].scope.Version += "." })
		},
		"byte for byte": func(one *testCase) {
			one.out = edited(t, one, func(entry *entry) {
				entry.scopes[0].items.keep(func(at int) bool { return at > 0 })
			})
		},
		"does not read what came in": func(one *testCase) { one.in = append(slices.Clone(one.in), 0x0A) },
		"but not what leaves":        func(one *testCase) { one.out = append(one.out, 0x0A) },
		"unknown fields leave":       func(one *testCase) { one.out = append(one.out, length(99)...) },
		"field 1000": func(one *testCase) {
			one.out = append(one.out, length(1, length(1, resourceOf(rules)), length(1000))...)
		},
		"exactly one resource": func(one *testCase) {
			one.out = append(one.out, length(1, length(1, resourceOf(rules)), length(1))...)
		},
		"transparent": func(one *testCase) {
			one.flags |= flagTransparent
			one.in = append(slices.Clone(one.in), length(99)...)
		},
	}
	for name, seed := range seeds() {
		for want, commit := range crimes {
			one := &testCase{signal: signalOf(name), flags: flagAccepted | flagClean, maxItemSize: unlimited, budget: unlimited, in: seed}
			one.out = rewritten(t, rules, one)
			commit(one)
			if want == "field 1000" && one.signal.dictionary {
				want = "unknown fields leave"
			}
			if _, err := rules.judge(one); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
				t.Errorf("%s: %q is answered with %v", name, want, err)
			}
		}
	}
}

func resourceOf(rules *rules) []byte {
	return written(&internal.Resource{Attributes: rules.verified})
}

// edited changes what leaves.
func edited(t *testing.T, one *testCase, edit func(*entry)) []byte {
	t.Helper()
	request, err := one.signal.raw(one.out)
	if err != nil {
		t.Fatal(err)
	}
	entries := request.entries()
	edit(&entries[len(entries)-1])
	return written(request)
}

// A foreign trace is named wherever there is one, unless the gate did not say that there is none.
func TestForeignTracesAreNamed(t *testing.T) {
	rules := trialRules(t)
	for name, seed := range seeds() {
		if name == "metrics-summary" {
			continue // has no exemplars
		}
		seed = bytes.ReplaceAll(seed, seedTrace[:], bytes.Repeat([]byte{9}, 16))
		one := &testCase{signal: signalOf(name), flags: flagAccepted | flagClean, maxItemSize: unlimited, budget: unlimited, in: seed}
		one.out = rewritten(t, rules, one)
		if _, err := rules.judge(one); err == nil || !strings.Contains(err.Error(), "foreign") {
			t.Errorf("%s: %v", name, err)
		}
		one.flags = flagAccepted
		if _, err := rules.judge(one); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
