package e2e

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/oriel-project/oriel/e2e/stage"
)

// TestOperations calls every operation that the SDK has, with as little as passes the checks of the model.
func TestOperations(t *testing.T) {
	w := simulated(t)
	client := reflect.ValueOf(w.aws)
	var names []string
	for m := range client.Type().Methods() {
		// An operation is func(context.Context, *Input, ...func(*Options)) (*Output, error).
		if m.Type.NumIn() != 4 || m.Type.NumOut() != 2 || !strings.HasSuffix(m.Type.In(2).String(), "Input") {
			continue
		}
		names = append(names, m.Name)
		in := reflect.New(m.Type.In(2).Elem())
		fill(in.Elem(), "")
		result := client.MethodByName(m.Name).Call([]reflect.Value{reflect.ValueOf(limit(t)), in})
		err, _ := result[1].Interface().(error)
		status := http.StatusOK
		if e, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
			status = e.HTTPStatusCode()
		}
		if _, isAPI := errors.AsType[smithy.APIError](err); err != nil && !isAPI || status >= 500 {
			t.Errorf("%s answers %d: %v", m.Name, status, err)
		}
	}
	if len(names) != 89 {
		t.Errorf("the SDK has %d operations", len(names))
	}
}

// fill gives every member a value: the first of an enumeration, else something that the member's name asks for.
func fill(v reflect.Value, name string) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Now().Add(time.Hour)))
			return
		}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Name != "NextToken" {
				fill(v.Field(i), f.Name)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), name)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), strings.TrimSuffix(name, "s"))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, name)
		fill(value, name)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		if values := v.MethodByName("Values"); values.IsValid() {
			v.Set(values.Call(nil)[0].Index(0))
			return
		}
		v.SetString(example(name))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(number(name))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(1)
	}
}

func number(name string) int64 {
	switch name {
	case "VolumeSizeInGb":
		return 200
	case "MaxUserDurationInSeconds", "DisconnectTimeoutInSeconds":
		return 600
	}
	return 1
}

// example gives a value that the model's patterns allow.
func example(name string) string {
	switch {
	case strings.Contains(name, "BucketArn"):
		return "arn:aws:s3:::appstream-example"
	case strings.Contains(name, "RoleArn"):
		return "arn:aws:iam::123456789012:role/example"
	case strings.Contains(strings.ToLower(name), "arn"), name == "AssociatedResource":
		return "arn:aws:appstream:us-east-1:123456789012:image/example"
	case strings.Contains(name, "AccountId"):
		return "210987654321"
	case name == "TaskId":
		return "01234567-89ab-cdef-0123-456789abcdef"
	case strings.HasPrefix(name, "UsbDeviceFilter"):
		return "scanner,0751,0752,*,*,*,0,1"
	case name == "IntendedInstanceType":
		return "stream.standard.medium"
	case name == "SourceAmiId":
		return "ami-0123456789abcdef0"
	case name == "WorkspaceImageId":
		return "wsi-0123456789"
	case strings.Contains(strings.ToLower(name), "url"):
		return "https://example.com/"
	case name == "EmbedHostDomain":
		return "example.com"
	}
	return "example"
}

// TestBehaviour sees each of the operations with behaviour do what it says, through AWS's SDK.
func TestBehaviour(t *testing.T) {
	w := simulated(t, "--sim-delay=20ms")
	ctx := limit(t)
	name, image := "hello", "oriel-debian-12"
	w.create(t, name, image)
	arn := "arn:aws:appstream:us-east-1:123456789012:image-builder/" + name

	must(w.aws.TagResource(ctx, &appstream.TagResourceInput{ResourceArn: &arn, Tags: map[string]string{"a": "1", "b": "2"}}))(t)
	must(w.aws.UntagResource(ctx, &appstream.UntagResourceInput{ResourceArn: &arn, TagKeys: []string{"a"}}))(t)
	if tags := must(w.aws.ListTagsForResource(ctx, &appstream.ListTagsForResourceInput{ResourceArn: &arn}))(t).Tags; len(tags) != 1 || tags["b"] != "2" {
		t.Errorf("tags: %v", tags)
	}
	if url := w.streamingURL(t, name); !strings.HasPrefix(url, w.URL+"/authenticate?parameters=") {
		t.Error("the streaming URL is of another form")
	}
	w.makeImage(t, name, "mine")
	w.await(t, name, types.ImageBuilderStateStopped)

	share := &appstream.UpdateImagePermissionsInput{Name: new("mine"), SharedAccountId: new("210987654321"),
		ImagePermissions: &types.ImagePermissions{AllowFleet: new(true), AllowImageBuilder: new(false)}}
	must(w.aws.UpdateImagePermissions(ctx, share))(t)
	if list := must(w.aws.DescribeImagePermissions(ctx, &appstream.DescribeImagePermissionsInput{Name: share.Name}))(t).SharedImagePermissionsList; len(list) != 1 ||
		*list[0].SharedAccountId != *share.SharedAccountId || !*list[0].ImagePermissions.AllowFleet {
		t.Errorf("permissions: %+v", list)
	}
	must(w.aws.DeleteImagePermissions(ctx, &appstream.DeleteImagePermissionsInput{Name: share.Name, SharedAccountId: share.SharedAccountId}))(t)

	must(w.aws.StartImageBuilder(ctx, &appstream.StartImageBuilderInput{Name: &name}))(t)
	w.await(t, name, types.ImageBuilderStateRunning)
	must(w.aws.StopImageBuilder(ctx, &appstream.StopImageBuilderInput{Name: &name}))(t)
	w.await(t, name, types.ImageBuilderStateStopped)
	w.create(t, "second", "mine")
	w.remove(t, name, "second")
	w.removeImage(t, "mine")
}

// makeImage has an image made by Oriel's command and waits until it is AVAILABLE.
func (w *world) makeImage(t testing.TB, builder, name string) {
	t.Helper()
	c := w.Oriel(limit(t), false, "image", "create", "--image-builder="+builder, "--name="+name, "--wait")
	out, err := c.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "arn:aws:appstream:us-east-1:123456789012:image/"+name+"\n") || !strings.Contains(string(out), "AVAILABLE") {
		t.Fatalf("%s: %v\n%s", strings.Join(c.Args[1:], " "), err, out)
	}
}

// TestThrottledTools: AWS's command line and SDK take the refusal of who asks too often for what it is, and try again, so that people who use them see nothing of it.
func TestThrottledTools(t *testing.T) {
	w := open(t, stage.Config{TOML: "[rates]\nwrite = 2\nburst = \"500ms\"\n"})
	patient := appstream.New(w.aws.Options(), func(o *appstream.Options) { o.Retryer, o.RetryMaxAttempts = retry.NewStandard(), 10 })
	var wg sync.WaitGroup
	until(t, "something is throttled", func() error {
		for n := range 3 {
			wg.Go(func() {
				if _, err := patient.CreateStack(limit(t), &appstream.CreateStackInput{Name: new(fmt.Sprint("sdk-", n, "-", rand.Text()))}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if !strings.Contains(w.Log(), "ThrottlingException") {
			return errors.New("nothing is")
		}
		return nil
	})
	for n := range 3 {
		wg.Go(func() {
			cli := w.AWS(limit(t), "create-stack", "--name", fmt.Sprint("cli", n))
			cli.Env = append(cli.Environ(), "AWS_MAX_ATTEMPTS=10") // with fewer, who is unlucky gives up
			if out, err := cli.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
}
