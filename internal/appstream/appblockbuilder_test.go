package appstream

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// packager is the app block builder of the app block suite, in a state since t0.
func packager(state string, edit ...func(*AppBlockBuilder)) AppBlockBuilder {
	b := AppBlockBuilder{Meta: Meta{Key: Key{"123456789012", "us-east-1", NounAppBlockBuilder, "b"}, ID: "abb-1"}, AppBlock: "suite", ImageRef: "base", Provisioned: true}
	b.Enter(state, t0)
	for _, fn := range edit {
		fn(&b)
	}
	return b
}

func suite() *AppBlock {
	b := &AppBlock{Meta: Meta{Key: Key{"123456789012", "us-east-1", NounAppBlock, "suite"}, ID: "ab-1", Version: 3}}
	b.View.SourceS3Location = &types.S3Location{S3Bucket: new("brand")}
	b.View.AppBlockErrors = []types.ErrorDetails{{ErrorMessage: new("an old one")}}
	b.Enter(AppBlockInactive, t0, 0)
	return b
}

func TestPlanAppBlockBuilder(t *testing.T) {
	running, stopped := Machine{ID: "abb-1", Phase: MachineRunning}, Machine{ID: "abb-1", Phase: MachineStopped}
	ready, quiet := Agent{Answers: true, Ready: true}, Agent{Problem: "no answer"}
	fresh := func(b *AppBlockBuilder) { b.Provisioned = false }
	silent := func(b *AppBlockBuilder) { b.SilentSince = t0 }
	packaging := func(b *AppBlockBuilder) {
		b.Enter(AppBlockBuilderRunning, t0)
		b.Package(suite(), t0)
	}
	writing := func(b *AppBlockBuilder) { packaging(b); b.Packaging.Writing = true }
	givenUp := func(b *AppBlockBuilder) { writing(b); b.Stop(t0) }
	away := func(b *AppBlockBuilder) { b.Problem = &Problem{Message: "the bucket is away", Count: 1} }
	lasting := func(b *AppBlockBuilder) {
		b.Problem = &Problem{Code: "SUBNET_NOT_FOUND", Message: "there is no such subnet", Lasting: true, Count: 1}
	}
	tired := func(b *AppBlockBuilder) {
		for n := range bootLimit {
			b.Boots = append(b.Boots, t0.Add(time.Duration(n)*time.Second))
		}
	}
	const packaged, unpackaged = "EnsurePackaged abb-1 brand/suite-20261121T090000.000Z.tar", "EnsureGone abb-1, EnsureObjectGone brand/suite-20261121T090000.000Z.tar"
	for _, test := range []struct {
		name    string
		b       AppBlockBuilder
		machine Machine
		agent   Agent
		after   time.Duration
		gone    bool // the app block is
		do      string
		state   string
		says    string // in the reason of the change, or in the newest error
	}{
		{name: "boot", b: packager(AppBlockBuilderStarting, fresh), do: "EnsureRunning abb-1", state: "STARTING"},
		{name: "what an earlier start has left", b: packager(AppBlockBuilderStarting, fresh), machine: stopped, do: "EnsureGone abb-1", state: "STARTING"},
		{name: "boots", b: packager(AppBlockBuilderStarting), machine: running, state: "STARTING"},
		{name: "ready", b: packager(AppBlockBuilderStarting), machine: running, agent: ready, state: "RUNNING", says: "desktop has drawn"},
		{name: "ended while it boots", b: packager(AppBlockBuilderStarting), machine: stopped, do: "EnsureStarted abb-1", state: "STARTING"},
		{name: "never ready", b: packager(AppBlockBuilderStarting), machine: running, agent: quiet, after: 15 * time.Minute, state: "STOPPING", says: "more than 15m0s. Last problem: no answer"},
		{name: "ready at the last moment", b: packager(AppBlockBuilderStarting), machine: running, agent: ready, after: time.Hour, state: "RUNNING"},
		{name: "cannot be made", b: packager(AppBlockBuilderStarting, fresh, lasting), state: "STOPPING", says: "no such subnet"},
		{name: "boots again and again", b: packager(AppBlockBuilderStarting, tired), machine: stopped, after: time.Minute, state: "STOPPING", says: "ended 8 times"},
		{name: "vanished while it boots", b: packager(AppBlockBuilderStarting), state: "STOPPING", says: "vanished"},

		{name: "runs", b: packager(AppBlockBuilderRunning), machine: running, agent: ready, state: "RUNNING"},
		{name: "falls silent", b: packager(AppBlockBuilderRunning), machine: running, state: "RUNNING"},
		{name: "is silent", b: packager(AppBlockBuilderRunning, silent), machine: running, after: silenceLimit, do: "EnsureStopped abb-1", state: "RUNNING"},
		{name: "reboot", b: packager(AppBlockBuilderRunning), machine: Machine{Phase: MachineStopped, ExitCode: ExitReboot}, do: "EnsureStarted abb-1", state: "RUNNING"},
		{name: "crash", b: packager(AppBlockBuilderRunning), machine: Machine{Phase: MachineStopped, ExitCode: 137}, do: "EnsureStarted abb-1", state: "RUNNING"},
		{name: "crashes", b: packager(AppBlockBuilderRunning, tired), machine: stopped, after: time.Minute, state: "STOPPING", says: "ended 8 times"},
		{name: "power off", b: packager(AppBlockBuilderRunning), machine: Machine{Phase: MachineStopped, ExitCode: ExitPowerOff}, state: "STOPPING", says: "powered off from inside"},
		{name: "vanished", b: packager(AppBlockBuilderRunning), state: "STOPPING", says: "vanished"},

		{name: "stops", b: packager(AppBlockBuilderStopping), machine: running, do: "EnsureGone abb-1", state: "STOPPING"},
		{name: "gone", b: packager(AppBlockBuilderStopping), do: "EnsureGone abb-1", state: "STOPPED", says: "the machine is gone"},
		{name: "cannot be removed", b: packager(AppBlockBuilderStopping, lasting), machine: running, after: 15 * time.Minute, state: "STOPPED", says: "could not be removed"},
		{name: "rests", b: packager(AppBlockBuilderStopped), state: "STOPPED"},
		{name: "removed late", b: packager(AppBlockBuilderStopped), machine: stopped, do: "EnsureGone abb-1", state: "STOPPED"},

		{name: "packages a machine that runs", b: packager(AppBlockBuilderStopping, packaging), machine: running, do: "EnsureStopped abb-1", state: "STOPPING"},
		{name: "packages one that stops", b: packager(AppBlockBuilderStopping, packaging), machine: Machine{Phase: MachineStopped, NextChange: t0.Add(time.Second)}, state: "STOPPING"},
		{name: "says that it packages", b: packager(AppBlockBuilderStopping, packaging), machine: stopped, state: "STOPPING"},
		{name: "packages", b: packager(AppBlockBuilderStopping, writing), machine: stopped, do: packaged, state: "STOPPING"},
		{name: "no package", b: packager(AppBlockBuilderStopping, packaging, lasting), machine: stopped, state: "STARTING", says: "The package could not be made: there is no such subnet"},
		{name: "no package in time", b: packager(AppBlockBuilderStopping, packaging), machine: stopped, after: packagingTime, state: "STARTING", says: "not done within 1h0m0s"},
		{name: "nothing to package", b: packager(AppBlockBuilderStopping, packaging), state: "STOPPING", says: "vanished"},
		{name: "gives the package up", b: packager(AppBlockBuilderStopping, givenUp), machine: running, do: unpackaged, state: "STOPPING"},
		{name: "has given it up", b: packager(AppBlockBuilderStopping, givenUp), do: unpackaged, state: "STOPPED", says: "the machine is gone"},
		{name: "what there is of it cannot be removed", b: packager(AppBlockBuilderStopping, givenUp, away), after: 15 * time.Minute, state: "STOPPED", says: "Last problem: the bucket is away"},
		{name: "what there is of it is removed late", b: packager(AppBlockBuilderStopped, func(b *AppBlockBuilder) {
			b.Abandoned = &Packaging{Bucket: "brand", Key: "suite-20261121T090000.000Z.tar"}
		}), do: unpackaged, state: "STOPPED"},
		{name: "nothing to package for", b: packager(AppBlockBuilderStopping, packaging), machine: stopped, gone: true, state: "STARTING", says: "not there any more"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := AppBlockBuilderSnapshot{Builder: test.b, AppBlock: suite(), Machine: test.machine, Agent: test.agent, Sizes: InstanceTypes()}
			if test.gone {
				s.AppBlock = nil
			}
			now := t0.Add(test.after)
			d := PlanAppBlockBuilder(s, now)
			var do []string
			for _, action := range d.Do {
				do = append(do, fmt.Sprint(action))
			}
			said := d.Why
			if list := d.Next.View.AppBlockBuilderErrors; len(list) > 0 {
				said += *list[len(list)-1].ErrorMessage
			}
			if strings.Join(do, ", ") != test.do || d.Next.State != test.state || !strings.Contains(said, test.says) {
				t.Errorf("it does %q and is %s, %q", do, d.Next.State, said)
			}
			if (d.Next.State == AppBlockBuilderStarting || d.Next.State == AppBlockBuilderStopping) && (d.Again.IsZero() || d.Next.Deadline.IsZero()) {
				t.Errorf("nobody looks at it again: %+v", d)
			}
			if wrote := len(d.Also) == 1; wrote != (test.do == packaged) {
				t.Fatalf("it writes %+v", d.Also)
			} else if wrote {
				block := d.Also[0].Record.(*AppBlock)
				if block.State != AppBlockActive || *block.View.SourceS3Location.S3Key != "suite-20261121T090000.000Z.tar" || block.View.AppBlockErrors != nil || d.Next.Packaging != nil {
					t.Errorf("%+v, %+v", block.View, d.Next)
				}
				if s.AppBlock.State != AppBlockInactive || s.AppBlock.View.SourceS3Location.S3Key != nil || s.Builder.Packaging == nil {
					t.Error("the snapshot was changed")
				}
			}
		})
	}
}

func TestAppBlockBuilderSpec(t *testing.T) {
	b := packager(AppBlockBuilderStopped)
	if spec := b.Spec(nil); spec.Subnet != IsolatedSubnet || spec.ID != "abb-1" || spec.ImageRef != "base" || spec.Sessions != 0 {
		t.Errorf("%+v", spec)
	}
	b.View.EnableDefaultInternetAccess = new(true)
	if spec := b.Spec(nil); spec.Subnet != "" {
		t.Errorf("%+v", spec)
	}
	b.View.VpcConfig = &types.VpcConfig{SubnetIds: []string{"subnet-1"}}
	if spec := b.Spec(nil); spec.Subnet != "subnet-1" {
		t.Errorf("%+v", spec)
	}
}
