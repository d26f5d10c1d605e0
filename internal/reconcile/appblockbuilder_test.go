package reconcile_test

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	appstreamapi "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/compute/sim"
	"github.com/oriel-project/oriel/internal/objects"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
)

const suiteARN = "arn:aws:appstream:us-east-1:123456789012:app-block/suite"

// packager makes the app block suite and the app block builder b, which is associated with it.
func (w *world) packager() {
	w.t.Helper()
	_, err := w.svc.CreateAppBlock(w.ctx(), &appstreamapi.CreateAppBlockInput{Name: aws.String("suite"), PackagingType: types.PackagingTypeAppstream2,
		SourceS3Location: &types.S3Location{S3Bucket: aws.String("packages")}})
	w.must(err)
	_, err = w.svc.CreateAppBlockBuilder(w.ctx(), &appstreamapi.CreateAppBlockBuilderInput{Name: aws.String("b"), InstanceType: aws.String("stream.standard.small"),
		Platform: "DEBIAN_12", VpcConfig: &types.VpcConfig{}})
	w.must(err)
	_, err = w.svc.AssociateAppBlockBuilderAppBlock(w.ctx(), &appstreamapi.AssociateAppBlockBuilderAppBlockInput{AppBlockArn: aws.String(suiteARN), AppBlockBuilderName: aws.String("b")})
	w.must(err)
}

// pack asks one thing of the app block builder.
func (w *world) pack(op string) (err error) {
	switch op {
	case "start":
		_, err = w.svc.StartAppBlockBuilder(w.ctx(), &appstreamapi.StartAppBlockBuilderInput{Name: aws.String("b")})
	case "stop":
		_, err = w.svc.StopAppBlockBuilder(w.ctx(), &appstreamapi.StopAppBlockBuilderInput{Name: aws.String("b")})
	case "package":
		_, err = w.svc.CreateAppBlockPackage(w.ctx(), &service.CreateAppBlockPackageInput{AppBlockBuilderName: aws.String("b")})
	}
	return err
}

func (w *world) describePackager() types.AppBlockBuilder {
	w.t.Helper()
	out, err := w.svc.DescribeAppBlockBuilders(w.ctx(), &appstreamapi.DescribeAppBlockBuildersInput{Names: []string{"b"}})
	w.must(err)
	return out.AppBlockBuilders[0]
}

func (w *world) suite() types.AppBlock {
	w.t.Helper()
	out, err := w.svc.DescribeAppBlocks(w.ctx(), &appstreamapi.DescribeAppBlocksInput{Arns: []string{suiteARN}})
	w.must(err)
	return out.AppBlocks[0]
}

func (w *world) reachPackager(state types.AppBlockBuilderState) time.Duration {
	w.t.Helper()
	return w.wait("b → "+string(state), 3*time.Hour, func() bool {
		return w.describePackager().State == state
	})
}

// packages gives the keys of the packages, each of which must be whole.
func (w *world) packages() (keys []string) {
	w.t.Helper()
	list, err := w.files.List(w.ctx(), caller.Account, "packages", "", "", 100)
	w.must(err)
	for _, info := range list {
		r, _, err := w.files.Open(w.ctx(), objects.Location{Account: caller.Account, Bucket: "packages", Key: info.Key})
		w.must(err)
		if _, err := tar.NewReader(r).Next(); !errors.Is(err, io.EOF) {
			w.t.Errorf("the package %s: %v", info.Key, err)
		}
		w.must(r.Close())
		keys = append(keys, info.Key)
	}
	return keys
}

// checkPackager looks for a machine of the builder that must not be, and for changes of state that are not in the table.
func (w *world) checkPackager() {
	w.t.Helper()
	machines, err := w.provider.List(w.ctx())
	w.must(err)
	if len(machines) > 0 {
		w.t.Errorf("machines without need: %+v", machines)
	}
	allowed := map[string]bool{}
	for noun, table := range appstream.Transitions() {
		for _, tr := range table {
			allowed[fmt.Sprint(noun, tr.From, "→", tr.To)] = true
		}
	}
	w.must(w.store.View(w.ctx(), func(tx store.Tx) error {
		list, err := store.List[appstream.AppBlockBuilder](tx, store.Query{Noun: appstream.NounAppBlockBuilder})
		for _, b := range list {
			w.history(tx, b.Meta, allowed)
		}
		return err
	}))
}

func TestLifeOfAnAppBlockBuilder(t *testing.T) {
	in(t, func(w *world) {
		w.packager()
		w.must(w.pack("start"))
		if took := w.reachPackager("RUNNING"); took < delay || took > delay+time.Second {
			t.Errorf("STARTING → RUNNING took %s, a start takes %s", took, delay)
		}
		w.must(w.pack("stop"))
		w.reachPackager("STOPPED")
		w.checkPackager()
		if w.suite().State != types.AppBlockStateInactive || len(w.packages()) != 0 {
			t.Error("there is a package that nobody has asked for")
		}

		w.must(w.pack("start"))
		w.reachPackager("RUNNING")
		w.must(w.pack("package"))
		w.reachPackager("STOPPED")
		w.checkPackager()
		first := w.suite()
		if keys := w.packages(); first.State != types.AppBlockStateActive || len(keys) != 1 || *first.SourceS3Location.S3Key != keys[0] {
			t.Errorf("the app block is %s with %s, the packages are %v", first.State, aws.ToString(first.SourceS3Location.S3Key), keys)
		}

		w.must(w.pack("start")) // a newer package takes the place of the old one, which stays where it is
		w.reachPackager("RUNNING")
		w.must(w.pack("package"))
		w.reachPackager("STOPPED")
		if keys := w.packages(); len(keys) != 2 || *w.suite().SourceS3Location.S3Key != keys[1] || *first.SourceS3Location.S3Key != keys[0] {
			t.Errorf("the packages are %v", keys)
		}
		_, err := w.svc.DisassociateAppBlockBuilderAppBlock(w.ctx(), &appstreamapi.DisassociateAppBlockBuilderAppBlockInput{AppBlockArn: aws.String(suiteARN), AppBlockBuilderName: aws.String("b")})
		w.must(err)
		_, err = w.svc.DeleteAppBlockBuilder(w.ctx(), &appstreamapi.DeleteAppBlockBuilderInput{Name: aws.String("b")})
		w.must(err)
		_, err = w.svc.DeleteAppBlock(w.ctx(), &appstreamapi.DeleteAppBlockInput{Name: aws.String("suite")})
		w.must(err)
	})
}

// When the package cannot be written, the machine runs again with all that is on it.
func TestPackageThatCannotBeWritten(t *testing.T) {
	for name, test := range map[string]struct {
		method string
		err    error
		says   string
	}{
		"the disk is full":      {"EnsureReported", syscall.ENOSPC, "no space left for packages/suite-"},
		"nothing was installed": {"SaveChanges", &compute.Fault{Message: "nothing was installed"}, "nothing was installed"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				w.packager()
				w.must(w.pack("start"))
				w.reachPackager("RUNNING")
				machine := func() string {
					list, err := w.provider.List(w.ctx())
					w.must(err)
					return list[0].IPv4
				}
				before := machine()
				broken := true
				w.setInject(func(method, _ string, when sim.When) error {
					if method == "EnsureGone" {
						t.Error("the machine was removed")
					}
					if broken && method == test.method && when == sim.Before {
						return test.err
					}
					return nil
				})
				w.must(w.pack("package"))
				w.reachPackager("STARTING")
				w.reachPackager("RUNNING")
				b := w.describePackager()
				if b.StateChangeReason == nil || !strings.Contains(*b.StateChangeReason.Message, test.says) || len(b.AppBlockBuilderErrors) != 1 {
					t.Errorf("%+v", b)
				}
				if machine() != before || w.suite().State != types.AppBlockStateInactive || len(w.packages()) != 0 {
					t.Error("something of it has happened")
				}
				w.setInject(nil)
				broken = false
				w.must(w.pack("package"))
				w.reachPackager("STOPPED")
				if b := w.describePackager(); b.StateChangeReason != nil || len(b.AppBlockBuilderErrors) != 0 || w.suite().State != types.AppBlockStateActive {
					t.Errorf("%+v", b)
				}
			})
		})
	}
}

// StopAppBlockBuilder ends a package that is being written, at once, and nothing of it stays; the next one can be made.
func TestStopWhileAPackageIsWritten(t *testing.T) {
	in(t, func(w *world) {
		w.packager()
		w.must(w.pack("start"))
		w.reachPackager("RUNNING")
		var writing atomic.Bool
		w.setInject(func(method, _ string, when sim.When) error {
			if method == "SaveChanges" {
				writing.Store(true)
			}
			if method == "EnsureReported" && when == sim.After {
				t.Error("the package was written to its end")
			}
			return nil
		})
		w.must(w.pack("package"))
		w.wait("it is written", time.Hour, writing.Load)
		w.must(w.pack("stop"))
		w.reachPackager("STOPPED")
		w.setInject(nil)
		w.noPackage()
		w.must(w.pack("start"))
		w.reachPackager("RUNNING")
		w.must(w.pack("package"))
		w.reachPackager("STOPPED")
		if b := w.describePackager(); b.StateChangeReason != nil || w.suite().State != types.AppBlockStateActive || len(w.packages()) != 1 {
			t.Errorf("%+v", b)
		}
	})
}

// noPackage looks whether a package was given up and nothing of it has stayed.
func (w *world) noPackage() {
	w.t.Helper()
	w.checkPackager()
	if keys := w.packages(); len(keys) != 0 || w.suite().State != types.AppBlockStateInactive {
		w.t.Errorf("the app block is %s, the packages are %v", w.suite().State, keys)
	}
	b := w.describePackager()
	if b.StateChangeReason == nil || !strings.Contains(*b.StateChangeReason.Message, "StopAppBlockBuilder has ended it") || len(b.AppBlockBuilderErrors) != 0 {
		w.t.Errorf("the app block builder is %+v", b)
	}
	if s := w.steps(appstream.NounAppBlockBuilder, "b"); len(s) != 2 || !strings.HasPrefix(s[0], "begun: write the package suite-") || !strings.HasPrefix(s[1], "failed: write the package suite-") {
		w.t.Errorf("its steps are %q", s)
	}
}

// One that cannot run stops, says why, and leaves nothing.
func TestAppBlockBuilderThatCannotStart(t *testing.T) {
	in(t, func(w *world) {
		w.packager()
		w.setInject(func(method, _ string, when sim.When) error {
			if method == "EnsureRunning" && when == sim.Before {
				return &compute.Fault{Code: "SUBNET_NOT_FOUND", Message: "there is no such subnet"}
			}
			return nil
		})
		w.must(w.pack("start"))
		w.reachPackager("STOPPED")
		b := w.describePackager()
		if len(b.AppBlockBuilderErrors) != 1 || b.AppBlockBuilderErrors[0].ErrorCode != "SUBNET_NOT_FOUND" || !strings.Contains(*b.StateChangeReason.Message, "no such subnet") {
			t.Errorf("%+v", b)
		}
		w.checkPackager()
		w.setInject(nil)
		w.must(w.pack("start"))
		w.reachPackager("RUNNING")
		if b := w.describePackager(); b.StateChangeReason != nil || len(b.AppBlockBuilderErrors) != 0 {
			t.Errorf("%+v", b)
		}
	})
}

// A machine that vanishes is noticed by the sweep.
func TestAppBlockBuilderWhoseMachineVanishes(t *testing.T) {
	in(t, func(w *world) {
		w.packager()
		w.must(w.pack("start"))
		w.reachPackager("RUNNING")
		list, err := w.provider.List(w.ctx())
		w.must(err)
		w.must(w.provider.EnsureGone(w.ctx(), list[0].ID))
		w.reachPackager("STOPPED")
		if b := w.describePackager(); len(b.AppBlockBuilderErrors) != 1 || !strings.Contains(*b.AppBlockBuilderErrors[0].ErrorMessage, "vanished") {
			t.Errorf("%+v", b)
		}
	})
}
