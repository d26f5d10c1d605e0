package appstream

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"pgregory.net/rapid"
)

func entitlement(visibility types.AppVisibility, applications []string, pairs ...string) Entitlement {
	e := Entitlement{Visibility: visibility, Applications: applications}
	for n := 0; n < len(pairs); n += 2 {
		e.Attributes = append(e.Attributes, types.EntitlementAttribute{Name: &pairs[n], Value: &pairs[n+1]})
	}
	return e
}

func TestEntitled(t *testing.T) {
	lab := entitlement(types.AppVisibilityAssociated, []string{"calc", "paint"}, "groups", "lab")
	staff := entitlement(types.AppVisibilityAssociated, []string{"mail", "paint"}, "groups", "staff", "groups", "boss", "department", "office")
	boss := entitlement(types.AppVisibilityAll, nil, "title", "boss")
	list := []Entitlement{lab, staff, boss}
	type has = map[string]string
	for name, test := range map[string]struct {
		list       []Entitlement
		attributes has
		want       []string
		all        bool
	}{
		"no entitlements":        {nil, nil, nil, true},
		"no attributes":          {list, nil, nil, false},
		"one group":              {list, has{"groups": "lab"}, []string{"calc", "paint"}, false},
		"one of several":         {list, has{"groups": "x:lab:y"}, []string{"calc", "paint"}, false},
		"a part of a value":      {list, has{"groups": "laboratory"}, nil, false},
		"another case":           {list, has{"groups": "Lab"}, nil, false},
		"another attribute":      {list, has{"roles": "lab"}, nil, false},
		"one of two attributes":  {list, has{"groups": "staff"}, nil, false},
		"both, one value of two": {list, has{"groups": "boss", "department": "office"}, []string{"mail", "paint"}, false},
		"two entitlements":       {list, has{"groups": "lab:staff", "department": "office"}, []string{"calc", "mail", "paint"}, false},
		"everything":             {list, has{"groups": "lab", "title": "boss"}, nil, true},
		"an empty value":         {list, has{"groups": ""}, nil, false},
		"it names no attribute":  {[]Entitlement{{Visibility: types.AppVisibilityAll}}, has{"groups": "lab"}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got, all := Entitled(test.list, test.attributes); !slices.Equal(got, test.want) || all != test.all {
				t.Errorf("he sees %v, all %v; want %v, %v", got, all, test.want, test.all)
			}
		})
	}
}

// Who has more attributes never sees less, and one more entitlement takes nothing away from who is under others.
func TestEntitledGrows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.SampledFrom([]string{"a", "b", "c"})
		name := rapid.SampledFrom([]string{"groups", "roles"})
		draw := rapid.Custom(func(t *rapid.T) Entitlement {
			var pairs []string
			for range rapid.IntRange(1, 3).Draw(t, "attributes") {
				pairs = append(pairs, name.Draw(t, "name"), word.Draw(t, "value"))
			}
			visibility := rapid.SampledFrom([]types.AppVisibility{types.AppVisibilityAll, types.AppVisibilityAssociated, types.AppVisibilityAssociated}).Draw(t, "visibility")
			return entitlement(visibility, rapid.SliceOf(rapid.SampledFrom([]string{"calc", "mail", "paint"})).Draw(t, "applications"), pairs...)
		})
		list := rapid.SliceOfN(draw, 1, 4).Draw(t, "entitlements")
		attributes := map[string]string{"groups": word.Draw(t, "group")}
		before, all := Entitled(list, attributes)
		more := map[string]string{"groups": attributes["groups"] + ":" + word.Draw(t, "another"), "roles": word.Draw(t, "role")}
		check := func(what string, after []string, afterAll bool) {
			for _, a := range before {
				if all && !afterAll || !afterAll && !slices.Contains(after, a) {
					t.Fatalf("%s takes %s away", what, a)
				}
			}
		}
		after, afterAll := Entitled(list, more)
		check("an attribute", after, afterAll)
		after, afterAll = Entitled(append(list, draw.Draw(t, "one more")), attributes)
		check("an entitlement", after, afterAll)
	})
}
