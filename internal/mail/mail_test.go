package mail

import (
	"bufio"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/language"
	"github.com/oriel-project/oriel/internal/mail/mailtest"
)

const (
	secret = "k7wq-3mzp-x9fd-2hbt"
	link   = "user-1.ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// pool is the users that letters are about.
type pool struct {
	mu    sync.Mutex
	gone  bool
	asked int
	name  string
	title string
	as    string // address; "" for jane@example.com
}

func (p *pool) user() (appstream.User, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	if p.gone {
		return appstream.User{}, appstream.Errorf(appstream.ResourceNotFound, "gone")
	}
	return appstream.User{Meta: appstream.Meta{Key: appstream.Key{Account: "123456789012", Region: "eu-west-1", Noun: appstream.NounUser, Name: cmp.Or(p.as, "jane@example.com")}}, FirstName: p.name}, nil
}

func (p *pool) Invite(context.Context, string) (appstream.User, string, error) {
	u, err := p.user()
	return u, secret, err
}

func (p *pool) MakeReset(context.Context, string) (appstream.User, string, error) {
	u, err := p.user()
	return u, link, err
}

func (p *pool) Reader(context.Context, string, string) (appstream.User, string, error) {
	u, err := p.user()
	return u, p.title, err
}

func letter(kind appstream.LetterKind, language string) appstream.Letter {
	return appstream.Letter{Meta: appstream.Meta{ID: "letter-1", Version: 3}, Kind: kind, UserID: "user-1", Stack: "office", Language: language}
}

// certificate makes a certificate for 127.0.0.1 that is its own authority.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sheet := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	cert, err := x509.CreateCertificate(rand.Reader, sheet, sheet, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, data []byte) string {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	return write("cert.pem", "CERTIFICATE", cert), write("key.pem", "PRIVATE KEY", der)
}

// received gives the only mail in a folder: its header, its text and its page.
func received(t *testing.T, folder string) (header netmail.Header, text, page string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "new", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%d mails, %v", len(files), err)
	}
	f, err := os.Open(files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := netmail.ReadMessage(f)
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(files[0])
	_, parameters, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := multipart.NewReader(m.Body, parameters["boundary"])
	for {
		part, err := parts.NextRawPart()
		if err == io.EOF {
			return m.Header, text, page
		}
		if err != nil {
			t.Fatal(err)
		}
		var body io.Reader = part
		if part.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
			body = quotedprintable.NewReader(part)
		}
		data, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(part.Header.Get("Content-Type"), "text/html") {
			page = string(data)
		} else {
			text = strings.ReplaceAll(string(data), "\r\n", "\n")
		}
	}
}

func newPost(t *testing.T, users Users, edit func(*Config)) (*Post, *strings.Builder) {
	t.Helper()
	var log strings.Builder
	cfg := Config{Host: "127.0.0.1", From: "Applications <oriel@example.com>", PublicURL: "https://apps.example.com", Users: users, Log: slog.New(slog.NewTextHandler(&log, nil))}
	edit(&cfg)
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p, &log
}

// A real mail server gets the letters, over encrypted connections, with a password: what they say, in both languages, and nothing of it in the log.
func TestMailServer(t *testing.T) {
	certFile, keyFile := certificate(t)
	for _, mode := range []string{StartTLS, Implicit, Plain} {
		t.Run(mode, func(t *testing.T) {
			port, folder := mailtest.Start(t, mode, certFile, keyFile)
			users := &pool{name: "Jörg", title: "Büro\r\nBcc: everybody@example.com"}
			p, log := newPost(t, users, func(c *Config) {
				c.Port, c.Security, c.CAFile, c.Language = port, mode, certFile, "de"
				if mode != Plain {
					c.Username, c.Password = "oriel", "let me in"
				}
			})
			if err := p.Check(t.Context()); err != nil {
				t.Errorf("check: %v", err)
			}
			for _, test := range []struct {
				letter  appstream.Letter
				subject string
				says    []string
			}{
				{letter(appstream.LetterWelcome, ""), "Ihr Zugang zu Anwendungen", []string{"Guten Tag Jörg,", secret, "https://apps.example.com/portal/123456789012/eu-west-1", "jane@example.com"}},
				{letter(appstream.LetterReset, "en"), "Choose a new password", []string{"Hello Jörg,", "https://apps.example.com/portal/123456789012/eu-west-1/reset?code=" + link}},
				{letter(appstream.LetterStack, "xx"), "New for you: Büro Bcc: everybody@example.com", []string{"Büro"}},
			} {
				if err := p.Deliver(t.Context(), test.letter); err != nil {
					t.Fatal(err)
				}
				header, text, page := received(t, folder)
				subject, err := new(mime.WordDecoder).DecodeHeader(header.Get("Subject"))
				if err != nil || subject != test.subject || header.Get("To") != "<jane@example.com>" || header.Get("Bcc") != "" {
					t.Errorf("header: %v", header)
				}
				if header.Get("Auto-Submitted") != "auto-generated" || header.Get("Message-Id") != "<letter-1.3@apps.example.com>" || !strings.Contains(header.Get("From"), "<oriel@example.com>") {
					t.Errorf("header: %v", header)
				}
				for _, says := range test.says {
					if !strings.Contains(text, says) || !strings.Contains(page, says) {
						t.Errorf("it does not say %q:\n%s\n%s", says, text, page)
					}
				}
			}
			if text := log.String(); strings.Contains(text, secret) || strings.Contains(text, link) || strings.Contains(text, "jane") || strings.Count(text, "mail sent") != 3 {
				t.Errorf("the log:\n%s", text)
			}
		})
	}
}

// A domain can be of any letters, whatever the server takes.
func TestDomains(t *testing.T) {
	port, folder := mailtest.Start(t, Plain, "", "")
	for as, want := range map[string]string{"jane@bücher.example": "jane@xn--bcher-kva.example", "Jane+x@Example.com": "Jane+x@example.com", "jane@[192.0.2.1]": "jane@[192.0.2.1]"} {
		p, _ := newPost(t, &pool{as: as}, func(c *Config) { c.Port, c.Security = port, Plain })
		if err := p.Deliver(t.Context(), letter(appstream.LetterWelcome, "")); err != nil {
			t.Fatalf("%s: %v", as, err)
		}
		header, text, _ := received(t, folder)
		if header.Get("To") != "<"+want+">" || header.Get("X-RcptTo") != want || !strings.Contains(text, as) {
			t.Errorf("%s: %v\n%s", as, header, text)
		}
	}
}

// Without the encryption that is asked for, or to a server of another name, or with a wrong password nothing is sent; it is tried again, for all of it can be mended.
func TestServersThatAreNotTrusted(t *testing.T) {
	certFile, keyFile := certificate(t)
	plain, _ := mailtest.Start(t, Plain, certFile, keyFile)
	starttls, folder := mailtest.Start(t, StartTLS, certFile, keyFile)
	for name, edit := range map[string]func(*Config){
		"no encryption":     func(c *Config) { c.Port, c.Security = plain, StartTLS },
		"plain to implicit": func(c *Config) { c.Port, c.Security = plain, Implicit },
		"unknown authority": func(c *Config) { c.Port, c.CAFile = starttls, "" },
		"wrong password":    func(c *Config) { c.Port, c.Username, c.Password = starttls, "oriel", "let me out" },
		"nobody there":      func(c *Config) { c.Port = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := newPost(t, &pool{}, func(c *Config) {
				c.CAFile = certFile
				edit(c)
			})
			p.wait = time.Second // one waits for the other to speak
			err := p.Deliver(t.Context(), letter(appstream.LetterWelcome, ""))
			if _, ok := errors.AsType[*Later](err); !ok || strings.Contains(err.Error(), "let me") || strings.Contains(err.Error(), secret) {
				t.Errorf("%T %v", err, err)
			}
			if err := p.Check(t.Context()); err == nil || strings.Contains(err.Error(), "let me") {
				t.Errorf("check: %v", err)
			}
		})
	}
	if files, _ := filepath.Glob(filepath.Join(folder, "new", "*")); len(files) != 0 {
		t.Errorf("%d mails got through", len(files))
	}
}

// refusing is a mail server that answers one command with a code, or hangs up when the code is 0.
func refusing(t *testing.T, command string, code int) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				lines := bufio.NewScanner(c)
				fmt.Fprint(c, "220 mail\r\n")
				for data := false; lines.Scan(); {
					line := lines.Text()
					verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
					switch {
					case data && line != ".":
						continue
					case data:
						data, verb = false, "END"
					}
					switch {
					case verb == command && code == 0:
						return
					case verb == command:
						fmt.Fprintf(c, "%d no\r\n", code)
					case verb == "DATA":
						data = true
						fmt.Fprint(c, "354 go on\r\n")
					case verb == "QUIT":
						fmt.Fprint(c, "221 bye\r\n")
						return
					default:
						fmt.Fprint(c, "250 yes\r\n")
					}
				}
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// What a server says of a mail for good is for good; what may pass, or is about us, is tried again.
func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		command string
		code    int
		lasting bool
	}{{"RCPT", 550, true}, {"RCPT", 451, false}, {"DATA", 554, true}, {"DATA", 421, false}, {"END", 552, true}, {"END", 451, false}, {"MAIL", 550, false}} {
		port := refusing(t, test.command, test.code)
		p, log := newPost(t, &pool{}, func(c *Config) { c.Port, c.Security = port, Plain })
		err := p.Deliver(t.Context(), letter(appstream.LetterWelcome, ""))
		_, lasting := errors.AsType[*compute.Fault](err)
		_, later := errors.AsType[*Later](err)
		if lasting != test.lasting || later == test.lasting {
			t.Errorf("%d after %s: %T %v", test.code, test.command, err, err)
		}
		if strings.Contains(fmt.Sprint(err), "jane") || strings.Contains(fmt.Sprint(err), secret) {
			t.Errorf("the error tells too much: %v", err)
		}
		if text := log.String(); !strings.Contains(text, "jane@example.com") || strings.Contains(text, secret) {
			t.Errorf("the log does not tell who gets no mail, or too much:\n%s", text)
		}
	}
}

// A mail that the server has taken is sent, however the talk ends: sent again, it would make the password in it void.
func TestTakenIsSent(t *testing.T) {
	for _, command := range []string{"RSET", "QUIT"} {
		for _, code := range []int{0, 421, 503} {
			port := refusing(t, command, code)
			p, _ := newPost(t, &pool{}, func(c *Config) { c.Port, c.Security = port, Plain })
			if err := p.Deliver(t.Context(), letter(appstream.LetterWelcome, "")); err != nil {
				t.Errorf("%d after %s: %v", code, command, err)
			}
		}
	}
}

// A server that cannot be reached leaves the password as it is that a mail has which may have got through.
func TestSecretsAreMadeWhenTheServerListens(t *testing.T) {
	for name, port := range map[string]int{"nobody there": 1, "hangs up": refusing(t, "EHLO", 0)} {
		users := &pool{}
		p, _ := newPost(t, users, func(c *Config) { c.Port, c.Security = port, Plain })
		err := p.Deliver(t.Context(), letter(appstream.LetterWelcome, ""))
		if _, later := errors.AsType[*Later](err); !later || users.asked != 0 {
			t.Errorf("%s: %v, %d secrets", name, err, users.asked)
		}
	}
}

func TestNobodyToWriteTo(t *testing.T) {
	p, _ := newPost(t, &pool{gone: true}, func(c *Config) { c.Port, c.Security = refusing(t, "MAIL", 550), Plain })
	if err := p.Deliver(t.Context(), letter(appstream.LetterWelcome, "")); err != nil {
		t.Error(err)
	}
}

// silent is a mail server that says nothing, and tells how many connections it has.
func silent(t *testing.T) (port int, connections func() int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var mu sync.Mutex
	open := 0
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open++
			mu.Unlock()
			go func() {
				io.Copy(io.Discard, c)
				c.Close()
				mu.Lock()
				open--
				mu.Unlock()
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port, func() int {
		mu.Lock()
		defer mu.Unlock()
		return open
	}
}

// A server that hangs is talked to over a few connections, however many letters there are, and no longer than is wanted.
func TestSilentServer(t *testing.T) {
	port, connections := silent(t)
	p, _ := newPost(t, &pool{}, func(c *Config) { c.Port, c.Security = port, Plain })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 * atOnce {
		wg.Go(func() {
			if err := p.Deliver(ctx, letter(appstream.LetterWelcome, "")); err == nil {
				t.Error("it is sent")
			}
		})
	}
	wait := func(what string, ok func() bool) {
		for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: %d connections", what, connections())
			}
		}
	}
	wait("at work", func() bool { return connections() == atOnce })
	cancel()
	wg.Wait()
	wait("afterwards", func() bool { return connections() == 0 })
}

func TestPauses(t *testing.T) {
	l := &Later{errors.New("x")}
	for tries, want := range map[int]time.Duration{0: 10 * time.Second, 1: 10 * time.Second, 2: 20 * time.Second, 4: 80 * time.Second, 8: 15 * time.Minute, 1000: 15 * time.Minute} {
		if got := l.Pause(tries); got != want {
			t.Errorf("after %d tries it waits %s, want %s", tries, got, want)
		}
	}
}

// Every letter has its words in every language, and no title of a stack becomes markup.
func TestWords(t *testing.T) {
	for _, code := range language.Codes() {
		kinds := letters[code]
		if len(kinds) != len(letters["en"]) {
			t.Errorf("%s has %d letters", code, len(kinds))
		}
		for kind := range kinds {
			c := write(kind, code, facts{Name: "", Address: "j@example.com", Portal: "https://x/portal", Secret: secret, Stack: `<b>"A&B"</b>`})
			if c.Subject == "" || c.Language != code || strings.Contains(c.Text+c.Subject+c.HTML, "{{") || strings.Contains(c.HTML, "<b>") || strings.Contains(c.Text, " ,") {
				t.Errorf("%s in %s:\n%s\n%s", kind, code, c.Subject, c.Text)
			}
		}
	}
}

func TestSettings(t *testing.T) {
	for name, edit := range map[string]func(*Config){
		"no public address": func(c *Config) { c.PublicURL = "" },
		"no sender":         func(c *Config) { c.From = "oriel" },
		"no such file":      func(c *Config) { c.CAFile = "/nonexistent" },
		"no host":           func(c *Config) { c.Host = "" },
	} {
		cfg := Config{Host: "127.0.0.1", From: "oriel@example.com", PublicURL: "https://apps.example.com", Users: &pool{}}
		edit(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
