package appstream

import (
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// spareInstances is how many instances of an Elastic fleet wait for the next people: made, and stopped.
const spareInstances = 2

// elasticLook is how often an Elastic fleet looks whether what it is made of has changed.
const elasticLook = time.Minute

// ElasticSnapshot is what PlanFleet sees besides of an Elastic fleet.
type ElasticSnapshot struct {
	Recipe       Recipe    // what its image is to be made of
	Catalogue    Catalogue // what the image will have
	Problem      ElasticProblem
	Looked       time.Time // when it was found that the objects of the recipe are as it says
	Blocks       map[string]AppBlock
	Compositions []Composition
	ID           string // for a new composition
}

// ElasticProblem says why there is no Recipe.
type ElasticProblem struct {
	Text  string // for people; "" for no problem
	Block string // the app block that is to blame; "" for none
}

// Settled tells whether a fleet runs and is what it shall be, as far as it is known: then what it is made of need not be looked at all the time.
func (s *ElasticSnapshot) Settled(f *Fleet, now time.Time) bool {
	return f.State == FleetRunning && f.Trouble == "" && now.Before(s.Looked.Add(elasticLook)) &&
		!slices.ContainsFunc(s.Compositions, func(c Composition) bool { return c.State != CompositionReady })
}

// Elastic tells whether the fleet's image is composed, and its instances are made as people come.
func (f *Fleet) Elastic() bool { return f.View.FleetType == types.FleetTypeElastic }

// MaxConcurrent is how many sessions an Elastic fleet may have at a time.
func (f *Fleet) MaxConcurrent() int {
	if f.View.MaxConcurrentSessions == nil {
		return 0
	}
	return int(*f.View.MaxConcurrentSessions)
}

// planElastic sees that the fleet has the image that it shall have, and then that there are instances of it to spare. Until there is a newer
// image, the one that it has serves.
func planElastic(s FleetSnapshot, now time.Time) Decision[Fleet] {
	also, again := s.compose(now)
	inUse := 0
	for _, i := range s.Instances {
		if i.State == InstanceInUse {
			inUse++
		}
	}
	s.Fleet.Desired = min(inUse+spareInstances, s.Fleet.MaxConcurrent())
	d := Decision[Fleet]{Next: s.Fleet}
	if s.Fleet.ImageRef != "" {
		d = planCapacity(s, now)
	}
	d.Also = append(d.Also, also...)
	if d.Again.IsZero() || again.Before(d.Again) {
		d.Again = again
	}
	return d
}

// compose decides which compositions there shall be, gives the fleet its image and says when to look again.
func (s *FleetSnapshot) compose(now time.Time) (also []Also, again time.Time) {
	f, e, before := &s.Fleet, s.Elastic, s.Fleet.ImageRef
	again = e.Looked.Add(elasticLook)
	_, known := s.Sizes[deref(f.View.InstanceType)]
	digest, err := e.Recipe.Digest(f.ID)
	switch {
	case e.Problem.Text == "" && err != nil:
		e.Problem.Text = err.Error()
	case e.Problem.Text == "" && !known:
		e.Problem.Text = fmt.Sprintf("The instance type %s is not there any more. Configure it again, or stop the fleet and give it another.", deref(f.View.InstanceType))
	}
	if e.Problem.Text != "" {
		f.Trouble = e.Problem.Text
		if b, ok := e.Blocks[e.Problem.Block]; ok {
			also = b.setError(f.Trouble)
		}
		return also, now.Add(3 * fleetPoll)
	}
	wanted := CompositionPrefix(f.Name) + digest
	n := slices.IndexFunc(e.Compositions, func(c Composition) bool { return c.Name == wanted })
	switch {
	case n < 0:
		c := f.newComposition(e.ID, wanted, s.Agent, &e.Recipe, s.Sizes, now)
		also = append(also, Also{Record: &c, Why: "the fleet does not have this image"})
	case e.Compositions[n].State == CompositionReady:
		f.Trouble = ""
		for _, block := range e.Recipe.Blocks {
			also = append(also, e.Blocks[block.Name].setError("")...)
		}
		f.ImageRef, f.Base, f.Catalogue = e.Compositions[n].Ref, e.Recipe.ImageARN, e.Catalogue
	case e.Compositions[n].State == CompositionFailed:
		f.Trouble = e.Compositions[n].Failure
	case e.Compositions[n].State == CompositionDeleting: // it was not wanted for a moment
		again = now.Add(fleetPoll)
	}
	return append(also, s.tidy(wanted, before, now)...), again
}

// tidy gives up the compositions that the fleet does not need any more: not the one that it wants, nor the one that it has, nor those of its instances.
func (s *FleetSnapshot) tidy(wanted, has string, now time.Time) (also []Also) {
	for _, c := range s.Elastic.Compositions {
		booted := func(i Instance) bool { return i.Spec.ImageRef == c.Ref }
		if c.Name == wanted || c.Ref == has || c.State == CompositionDeleting || slices.ContainsFunc(s.Instances, booted) {
			continue
		}
		from := c.State
		c.Enter(CompositionDeleting, now, 0)
		c.Due = now
		also = append(also, Also{Record: &c, From: from, Why: "the fleet and its instances do not need it any more"})
	}
	return also
}
