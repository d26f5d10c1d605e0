package stage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	signing "github.com/aws/smithy-go/aws-http-auth/credentials"
	"github.com/aws/smithy-go/aws-http-auth/sigv4"
	v4 "github.com/aws/smithy-go/aws-http-auth/v4"
	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sys/unix"

	"github.com/oriel-project/oriel/internal/awsclient"
	"github.com/oriel-project/oriel/internal/keys"
	"github.com/oriel-project/oriel/internal/server"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/store/sqlite"
)

// Region is the region of every server here.
const Region = "us-east-1"

// Config says what server to run. Bin and Data are required.
type Config struct {
	Bin    string   // directory of oriel and oriel-agent
	Data   string   // data directory
	Engine string   // the container engine; "" for the provider sim
	Flags  []string // more flags of oriel serve
	TOML   string   // settings file
	Listen string   // ADDRESS:PORT; default a port of 127.0.0.1 that stays the server's
}

// Server is a process "oriel serve".
type Server struct {
	Config
	URL string // where the API and the streams are

	port    *os.File // keeps the port
	process *exec.Cmd
	ended   chan struct{} // closed when the process is
	err     error         // how, when it is
}

// Start runs a server and waits until it has its port. When ready is set, it waits until /readyz agrees.
func Start(ctx context.Context, c Config, ready bool) (*Server, error) {
	s := &Server{Config: c}
	if s.Listen == "" {
		var err error
		if s.port, s.Listen, err = reserve(); err != nil {
			return nil, err
		}
	}
	if c.TOML != "" {
		if err := os.WriteFile(s.settings(), []byte(c.TOML), 0o600); err != nil {
			return nil, err
		}
	}
	if err := s.start(ctx, ready); err != nil {
		s.Kill()
		return nil, fmt.Errorf("start a server: %w\n%s", err, s.Log())
	}
	return s, nil
}

// reserve takes a port of 127.0.0.1 that nobody else is given while the file is open, also when a server is not running for a while. A
// socket that is bound and does not listen leaves it to whoever asks for the port by its number.
func reserve() (socket *os.File, address string, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, "", fmt.Errorf("reserve a port: %w", err)
	}
	socket = os.NewFile(uintptr(fd), "port")
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	name, e := unix.Getsockname(fd)
	if err = errors.Join(err, e); err != nil {
		socket.Close()
		return nil, "", fmt.Errorf("reserve a port: %w", err)
	}
	return socket, fmt.Sprint("127.0.0.1:", name.(*unix.SockaddrInet4).Port), nil
}

func (s *Server) settings() string {
	return filepath.Join(filepath.Dir(s.Data), filepath.Base(s.Data)+".toml")
}

// flags are those that every command about this server needs.
func (s *Server) flags() (list []string) {
	list = append(list, "--data="+s.Data)
	if s.TOML != "" {
		list = append(list, "--config="+s.settings())
	}
	return list
}

func (s *Server) machines() []string {
	if s.Engine == "" {
		return []string{"--provider=sim"}
	}
	return []string{"--engine=" + s.Engine}
}

func (s *Server) start(ctx context.Context, ready bool) error {
	args := slices.Concat([]string{"serve", "--listen=" + s.Listen, "--log-format=json"}, s.flags(), s.machines(), s.Flags)
	s.process = exec.Command(filepath.Join(s.Bin, "oriel"), args...)
	s.process.Env = Clean()
	// A process group of its own, so that Ctrl-C ends the tests, which end it.
	s.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	from := len(s.Log())
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s.process.Stderr = log
	ended := make(chan struct{})
	s.ended = ended
	if err := s.process.Start(); err != nil {
		close(ended)
		return err
	}
	go func() {
		s.err = s.process.Wait()
		close(ended)
	}()
	var address string
	err = Until(ctx, func() (err error) {
		select {
		case <-ended:
			return Final(fmt.Errorf("it ended: %v", s.err))
		default:
		}
		address, err = s.address(from)
		return err
	})
	if err != nil {
		return err
	}
	if s.URL == "" { // the first start; the address stays, and clients read it while a server is started again
		s.URL = address
	}
	if !ready {
		return nil
	}
	return s.Ready(ctx)
}

// address finds in the log, from an offset on, the line that says where the server listens.
func (s *Server) address(from int) (string, error) {
	for line := range bytes.Lines([]byte(s.Log())[from:]) {
		var m struct {
			Msg string `json:"msg"`
			URL string `json:"url"`
		}
		if json.Unmarshal(line, &m) == nil && m.Msg == "serving" {
			return m.URL, nil
		}
	}
	return "", errors.New("it does not say where it serves")
}

// Ready waits until /readyz answers 200.
func (s *Server) Ready(ctx context.Context) error {
	return Until(ctx, func() error {
		r, err := http.Get(s.URL + "/readyz")
		if err != nil {
			return err
		}
		defer r.Body.Close()
		if text, _ := io.ReadAll(io.LimitReader(r.Body, 4<<10)); r.StatusCode != http.StatusOK {
			return fmt.Errorf("/readyz answers %s: %s", r.Status, text)
		}
		return nil
	})
}

// Log is what the server has said so far, over all its starts.
func (s *Server) Log() string {
	text, err := os.ReadFile(s.logFile())
	if err != nil {
		return ""
	}
	return string(text)
}

// logFile is a file, and not a pipe to this process, so that reading it costs the server and its clients nothing.
func (s *Server) logFile() string { return filepath.Clean(s.Data) + ".log" }

// PID is the process's number.
func (s *Server) PID() int { return s.process.Process.Pid }

// Stop asks the server to end, and waits. The error is that of the process.
func (s *Server) Stop() error {
	if s.process == nil || s.process.Process == nil {
		return nil
	}
	select {
	case <-s.ended:
		return nil // earlier
	default:
	}
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.ended:
		return s.err
	case <-time.After(time.Minute):
		s.Kill()
		return errors.New("the server did not end within a minute of SIGTERM")
	}
}

// Kill ends the server with SIGKILL.
func (s *Server) Kill() {
	if s.process != nil && s.process.Process != nil {
		s.process.Process.Kill()
		<-s.ended
	}
}

// Again starts a server that has ended, at the same address.
func (s *Server) Again(ctx context.Context) error {
	if err := s.start(ctx, true); err != nil {
		return fmt.Errorf("start the server again: %w\n%s", err, s.Log())
	}
	return nil
}

// Oriel is a command of oriel about this server: its data directory, its address, and for machines its engine.
func (s *Server) Oriel(ctx context.Context, machines bool, args ...string) *exec.Cmd {
	args = append(args, s.flags()...)
	if machines {
		args = append(args, s.machines()...)
	} else {
		args = append(args, "--endpoint="+s.URL)
	}
	c := exec.CommandContext(ctx, filepath.Join(s.Bin, "oriel"), args...)
	c.Env = Clean()
	return c
}

// Credentials is the file with the server's access key.
func (s *Server) Credentials() string { return server.CredentialsFile(s.Data) }

// AWS is a command of AWS's command line. Of several that are installed it takes the distribution's.
func (s *Server) AWS(ctx context.Context, args ...string) *exec.Cmd {
	program := "/usr/bin/aws"
	if _, err := os.Stat(program); err != nil {
		program = "aws"
	}
	c := exec.CommandContext(ctx, program, append([]string{"appstream", "--endpoint-url", s.URL}, args...)...)
	c.Env = append(Clean(), "AWS_SHARED_CREDENTIALS_FILE="+s.Credentials(), "AWS_CONFIG_FILE=/dev/null", "AWS_DEFAULT_REGION="+Region,
		"AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=")
	return c
}

// Client is AWS's SDK for Go with the server's own key. Nothing is tried twice.
func (s *Server) Client() (*appstream.Client, error) {
	key, err := keys.Read(s.Credentials())
	if err != nil {
		return nil, err
	}
	return awsclient.New(s.URL, Region, key), nil
}

// Request is a signed call of an operation, Prefix.Operation. It can be sent for five minutes, and more than once.
func (s *Server) Request(ctx context.Context, target string, in any) (*http.Request, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	return s.sign(ctx, "/", body, map[string]string{"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"})
}

// RequestCBOR is Request in the other protocol.
func (s *Server) RequestCBOR(ctx context.Context, target string, in any) (*http.Request, error) {
	body, err := cbor.Marshal(in)
	if err != nil {
		return nil, err
	}
	return s.sign(ctx, "/service/"+strings.Replace(target, ".", "/operation/", 1), body, map[string]string{"Smithy-Protocol": "rpc-v2-cbor", "Content-Type": "application/cbor"})
}

func (s *Server) sign(ctx context.Context, path string, body []byte, headers map[string]string) (*http.Request, error) {
	key, err := keys.Read(s.Credentials())
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	sum := sha256.Sum256(body)
	return r, sigv4.New().SignRequest(&sigv4.SignRequestInput{Request: r, PayloadHash: sum[:], Service: "appstream", Region: Region,
		SignatureType: v4.SignatureTypeHeader, Credentials: signing.Credentials{AccessKeyID: key.ID, SecretAccessKey: key.Secret}})
}

// CreateImage calls Oriel's own operation of the name.
func (s *Server) CreateImage(ctx context.Context, builder, image string) error {
	r, err := s.Request(ctx, "Oriel.CreateImage", map[string]string{"ImageBuilderName": builder, "Name": image})
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 4<<10))
		return fmt.Errorf("CreateImage answers %s: %s", answer.Status, text)
	}
	return nil
}

// Builder describes one image builder; nil when there is none of the name.
func Builder(ctx context.Context, c *appstream.Client, name string) (*types.ImageBuilder, error) {
	out, err := c.DescribeImageBuilders(ctx, &appstream.DescribeImageBuildersInput{Names: []string{name}})
	if _, missing := errors.AsType[*types.ResourceNotFoundException](err); missing || err == nil && len(out.ImageBuilders) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &out.ImageBuilders[0], nil
}

// AwaitBuilder waits until an image builder has a state; "" is being gone. FAILED, when it is not waited for, is the end.
func AwaitBuilder(ctx context.Context, c *appstream.Client, name string, want types.ImageBuilderState) (*types.ImageBuilder, error) {
	var b *types.ImageBuilder
	err := Until(ctx, func() (err error) {
		if b, err = Builder(ctx, c, name); err != nil {
			return err
		}
		switch {
		case b == nil && want == "" || b != nil && b.State == want:
			return nil
		case b == nil:
			return Final(fmt.Errorf("there is no image builder %s", name))
		case b.State == types.ImageBuilderStateFailed:
			return Final(fmt.Errorf("the image builder %s is FAILED: %s", name, reason(b.StateChangeReason)))
		}
		return fmt.Errorf("the image builder %s is %s, not %q: %s", name, b.State, want, reason(b.StateChangeReason))
	})
	return b, err
}

func reason(r *types.ImageBuilderStateChangeReason) string {
	if r == nil || r.Message == nil {
		return "no reason is given"
	}
	return *r.Message
}

// Image describes one image; nil when there is none of the name.
func Image(ctx context.Context, c *appstream.Client, name string) (*types.Image, error) {
	out, err := c.DescribeImages(ctx, &appstream.DescribeImagesInput{Names: []string{name}})
	if _, missing := errors.AsType[*types.ResourceNotFoundException](err); missing || err == nil && len(out.Images) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &out.Images[0], nil
}

// AwaitImage waits until an image has a state; "" is being gone. FAILED, when it is not waited for, is the end.
func AwaitImage(ctx context.Context, c *appstream.Client, name string, want types.ImageState) (*types.Image, error) {
	var i *types.Image
	err := Until(ctx, func() (err error) {
		if i, err = Image(ctx, c, name); err != nil {
			return err
		}
		switch {
		case i == nil && want == "" || i != nil && i.State == want:
			return nil
		case i == nil:
			return Final(fmt.Errorf("there is no image %s", name))
		case i.State == types.ImageStateFailed:
			return Final(fmt.Errorf("the image %s is FAILED: %+v", name, i.StateChangeReason))
		}
		return fmt.Errorf("the image %s is %s, not %q", name, i.State, want)
	})
	return i, err
}

// Installation is the name by which a container engine knows what belongs to the server of a data directory. The server must
// not be running.
func Installation(data string) (name string, err error) {
	ctx := context.Background()
	db, err := sqlite.Open(ctx, filepath.Join(data, "oriel.db"))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.View(ctx, func(tx store.Tx) error {
		value, err := tx.Setting("installation")
		name = string(value)
		return err
	})
	return name, err
}
