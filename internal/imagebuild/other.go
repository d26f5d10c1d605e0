package imagebuild

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/aws/smithy-go"
)

// hostPrefix begins the name of every image builder that a build makes.
const hostPrefix = "build-"

// hostOf is the name of the image builder in which an image is made. It is the same for every build of the image, so that the server lets only one
// have it.
func hostOf(image string) string {
	const most = 100
	if name := hostPrefix + image; len(name) <= most {
		return name
	}
	sum := sha256.Sum256([]byte(image))
	return hostPrefix + image[:most-len(hostPrefix)-13] + "-" + hex.EncodeToString(sum[:6])
}

// builder describes an image builder, with its tags; nil when there is none of the name.
func (b *Build) builder(ctx context.Context, name string) (found *types.ImageBuilder, tags map[string]string, err error) {
	err = b.patient(ctx, func() error {
		found, tags = nil, nil
		out, err := b.AWS.DescribeImageBuilders(ctx, &appstream.DescribeImageBuildersInput{Names: []string{name}})
		if err != nil || len(out.ImageBuilders) == 0 {
			return absent(err)
		}
		list, err := b.AWS.ListTagsForResource(ctx, &appstream.ListTagsForResourceInput{ResourceArn: out.ImageBuilders[0].Arn})
		if err != nil {
			return absent(err)
		}
		found, tags = &out.ImageBuilders[0], list.Tags
		return nil
	})
	return found, tags, err
}

// silence is how long a build was looked at without giving a sign. What passes between two looks counts for no more than a build that lives takes for a sign:
// in a longer time the server may have been away, for it too, or this process have stood still.
type silence struct {
	looked time.Time
	lasts  time.Duration
}

func (s *silence) look(sign time.Duration) {
	now := time.Now()
	s.lasts += min(now.Sub(s.looked), sign)
	s.looked = now
}

// clear removes what builds have left that are dead. One of this image that goes on is waited for, or is an error. free tells that there was nothing; else
// the image may be there by now.
func (b *Build) clear(ctx context.Context) (free bool, err error) {
	if err := b.clearOthers(ctx, true); err != nil {
		return false, err
	}
	last, quiet := "", silence{looked: time.Now()}
	for free = true; ; free = false {
		found, tags, err := b.builder(ctx, b.host)
		quiet.look(b.clock.sign)
		switch {
		case err != nil:
			return false, err
		case found == nil:
			return free, nil
		case tags[tagOf] != b.image:
			return false, fmt.Errorf("there is an image builder %s that no build of the image %s has made; delete it, or choose another name for the image", b.host, b.image)
		case b.ready && b.isDone(found, tags): // it was waited for already
			return true, nil
		case b.isDead(found, tags), tags[tagSign] == last && quiet.lasts > b.clock.silent:
			if b.ready = b.isDone(found, tags); b.ready {
				return free, nil
			}
			b.tell("removing the image builder "+b.host+", which an earlier build has left", "", -1)
			return false, b.remove(ctx, b.host, tags[tagRun])
		}
		if tags[tagSign] != last {
			if last != "" && !b.Wait {
				return false, &BusyError{b.image, b.host}
			}
			last, quiet.lasts = tags[tagSign], 0
		}
		if err := b.pause(ctx, "looking whether another build of "+b.image+" goes on"); err != nil {
			return false, err
		}
	}
}

// isDone tells whether an image builder is that of a build of the same recipe which has done all steps.
func (b *Build) isDone(found *types.ImageBuilder, tags map[string]string) bool {
	return found.State == types.ImageBuilderStateRunning && tags[tagDone] == b.id.Digest && tags[tagKept] == ""
}

// clearThis removes what a dead build of the image has left, when the image is there.
func (b *Build) clearThis(ctx context.Context) error {
	for {
		found, tags, err := b.builder(ctx, b.host)
		switch {
		case err != nil || found == nil || tags[tagOf] != b.image:
			return err
		case b.isDead(found, tags):
			b.tell("removing the image builder "+b.host+", which an earlier build has left", "", -1)
			return b.remove(ctx, b.host, tags[tagRun])
		case found.State != types.ImageBuilderStateSnapshotting: // another build is at work, for another recipe
			return nil
		}
		if err := b.pause(ctx, "waiting for the image builder "+b.host+", which is "+string(found.State)); err != nil {
			return err
		}
	}
}

// isDead tells whether nothing is to come of an image builder: its build says so, or has not been heard of for long, or had nothing left to do but to
// remove it.
func (b *Build) isDead(found *types.ImageBuilder, tags map[string]string) bool {
	switch found.State {
	case types.ImageBuilderStateDeleting, types.ImageBuilderStateStopped, types.ImageBuilderStateFailed:
		return true
	}
	return tags[tagKept] != "" || b.isOld(tags[tagSign])
}

// clearOthers removes what dead builds of other images have left, which counts in the quota and which nothing else removes: a name with the digest in it
// does not come again. Whether one lives is seen by its signs, for which patience waits; without it, those that are old are removed alone. What cannot be
// removed is no fault of this build.
func (b *Build) clearOthers(ctx context.Context, patience bool) error {
	signs := map[string]string{}
	in := new(appstream.DescribeImageBuildersInput)
	for {
		out, err := b.AWS.DescribeImageBuilders(ctx, in)
		if err != nil {
			return ctx.Err()
		}
		for _, found := range out.ImageBuilders {
			if *found.Name != b.host && strings.HasPrefix(*found.Name, hostPrefix) {
				signs[*found.Name] = ""
			}
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			break
		}
	}
	for quiet := (silence{looked: time.Now()}); ; quiet.look(b.clock.sign) {
		for name, last := range signs {
			found, tags, err := b.builder(ctx, name)
			sign := tags[tagSign]
			switch {
			case err != nil || !isLeft(found, tags), last != "" && sign != last: // the latter lives
				delete(signs, name)
			case b.isOld(sign), last != "" && quiet.lasts > b.clock.silent:
				delete(signs, name)
				b.tell("removing the image builder "+name+", which a build of the image "+tags[tagOf]+" has left", "", -1)
				if err := b.remove(ctx, name, tags[tagRun]); err != nil {
					b.tell("the image builder "+name+" could not be removed: "+err.Error(), "", -1)
				}
			default:
				signs[name] = sign
			}
		}
		if len(signs) == 0 || !patience || ctx.Err() != nil {
			return ctx.Err()
		}
		names := slices.Sorted(maps.Keys(signs))
		if err := b.pause(ctx, "looking whether the build in "+strings.Join(names, ", ")+" goes on"); err != nil {
			return err
		}
	}
}

// isLeft tells whether a build made an image builder, and would have to remove it if it lived. One that becomes an image is let finish, and one that is
// kept is somebody's.
func isLeft(found *types.ImageBuilder, tags map[string]string) bool {
	if found == nil || found.State == types.ImageBuilderStateDeleting || found.State == types.ImageBuilderStateSnapshotting {
		return false
	}
	return tags[tagOf] != "" && hostOf(tags[tagOf]) == *found.Name && tags[tagRun] != "" && tags[tagSign] != "" && tags[tagKept] == ""
}

// isOld tells whether the last sign of a build is so old that its clock cannot be what is wrong.
func (b *Build) isOld(sign string) bool {
	at, err := time.Parse(time.RFC3339, sign)
	return err != nil || time.Since(at) > b.clock.old
}

// remove deletes the image builder of a run and waits until it is gone. Another run may have made one of its name by then.
func (b *Build) remove(ctx context.Context, name, run string) error {
	err := b.patient(ctx, func() error {
		_, err := b.AWS.DeleteImageBuilder(ctx, &appstream.DeleteImageBuilderInput{Name: &name})
		if code(err) == "OperationNotPermittedException" { // it is being deleted
			return nil
		}
		return absent(err)
	})
	for err == nil {
		found, tags, e := b.builder(ctx, name)
		if e == nil && (found == nil || tags[tagRun] != run) {
			return nil
		}
		if err = e; err == nil {
			err = sleep(ctx, b.clock.poll)
		}
	}
	return err
}

// patient repeats a call while a server that has answered before does not, or has no time. Every call of a build can be repeated.
func (b *Build) patient(ctx context.Context, call func() error) error {
	for start, wait := time.Now(), 100*time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := call()
		b.reached = b.reached || err == nil || code(err) != ""
		if err == nil || !b.reached || ctx.Err() != nil || !passing(err) || time.Since(start) > b.clock.retry {
			if ctx.Err() != nil && err != nil {
				return ctx.Err()
			}
			return err
		}
		if sleep(ctx, wait) != nil {
			return ctx.Err()
		}
	}
}

// whole gives a context for a call that makes something: an interruption waits for the answer, so that it is known what was made.
func whole(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
}

// passing tells whether the same call may succeed a moment later.
func passing(err error) bool {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		switch e.ErrorCode() {
		case "ThrottlingException", "ConcurrentModificationException", "ServiceUnavailableException", "ServiceUnavailable":
			return true
		}
		return false
	}
	return true
}

// code gives the code of an error of the server, and "" for any other.
func code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return ""
}

func isNotFound(err error) bool { return code(err) == "ResourceNotFoundException" }

// absent makes no error of one that says that there is nothing.
func absent(err error) error {
	if isNotFound(err) {
		return nil
	}
	return err
}
