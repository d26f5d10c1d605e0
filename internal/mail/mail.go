// Package mail writes letters to the users of a pool and hands them to a mail server by SMTP. What is to be sent are records of the store
// (appstream.Letter), which the engine brings here one by one and again until they are sent.
//
// A letter has its secret, a temporary password or a link, made the moment before it is sent: it is in the mail and nowhere else. One that is sent twice,
// since nobody knows whether the first got through, has another secret the second time, and the newest is good.
package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
	"golang.org/x/net/idna"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
)

// How a connection to the mail server is protected.
const (
	StartTLS      = "starttls"      // begins plain and must become encrypted; port 587
	Opportunistic = "opportunistic" // is encrypted if the server can, whoever the server is; port 25
	Implicit      = "tls"           // is encrypted from the beginning; port 465
	Plain         = "none"          // is not; for a server on this machine
)

// Config is what a Post is made of. Host, From, PublicURL and Users are required.
type Config struct {
	Host     string
	Port     int    // 0: the usual one of Security
	Security string // default StartTLS
	CAFile   string // PEM file of the authorities that the server's certificate may be of; "": the system's
	Username string // "": the server asks for none
	Password string
	From     string // address, or Name <address>
	Language string // of those who have not said theirs: en or de

	// PublicURL is scheme and host of the links in mails. It is not what a browser says, or anybody could have links sent to others that lead to him.
	PublicURL string
	Users     Users
	Log       *slog.Logger // nil: slog.Default
}

// Users is what letters are about; *service.Service has it. Errors of the kind appstream.ResourceNotFound: there is nobody to be written to any more.
type Users interface {
	// Invite gives a user a temporary password.
	Invite(ctx context.Context, userID string) (u appstream.User, password string, err error)
	// MakeReset gives a user the text of a link by which another password can be chosen.
	MakeReset(ctx context.Context, userID string) (u appstream.User, link string, err error)
	// Reader gives a user who is to be told of a stack, and its title.
	Reader(ctx context.Context, userID, stack string) (u appstream.User, title string, err error)
}

// How long a mail server may take. Servers that look into mails before they take them are slow to say so, and a mail that they have taken and we have not heard of
// is sent twice.
const (
	dialTime = 30 * time.Second
	talkTime = 5 * time.Minute // until we are let in, and once more until the mail is taken
)

// atOnce is how many connections there are at a time. Mail servers keep out who has many.
const atOnce = 4

// Post sends letters. It may be used concurrently. Make it with New.
type Post struct {
	Config
	host  string // of PublicURL, for Message-ID
	tls   *tls.Config
	wait  time.Duration // talkTime
	lines chan struct{} // one for each connection
}

// New makes a Post. It does not ask the server for anything yet.
func New(cfg Config) (*Post, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Security == "" {
		cfg.Security = StartTLS
	}
	if cfg.Port == 0 {
		cfg.Port = map[string]int{Implicit: gomail.DefaultPortSSL, StartTLS: gomail.DefaultPortTLS}[cfg.Security]
		if cfg.Port == 0 {
			cfg.Port = gomail.DefaultPort
		}
	}
	u, err := url.Parse(cfg.PublicURL)
	if err != nil || u.Hostname() == "" {
		return nil, errors.New("mails need the address that links in them begin with: set public_url")
	}
	p := &Post{Config: cfg, host: u.Hostname(), tls: &tls.Config{ServerName: cfg.Host, MinVersion: tls.VersionTLS12}, wait: talkTime, lines: make(chan struct{}, atOnce)}
	if cfg.Security == Opportunistic {
		p.tls.InsecureSkipVerify = true // who would go on without encryption gains nothing by insisting on a name
	}
	if cfg.CAFile != "" {
		text, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the mail server's authorities: %w", err)
		}
		p.tls.RootCAs = x509.NewCertPool()
		if !p.tls.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s has no certificate in PEM", cfg.CAFile)
		}
	}
	if _, err := p.client(context.Background()); err != nil {
		return nil, fmt.Errorf("the mail server %s: %w", cfg.Host, err)
	}
	if err := gomail.NewMsg().From(cfg.From); err != nil {
		return nil, fmt.Errorf("the address that mails are from: %w", err)
	}
	return p, nil
}

// client makes a client for one connection, which ends with ctx.
func (p *Post) client(ctx context.Context) (*gomail.Client, error) {
	hello := p.host
	if net.ParseIP(hello) != nil {
		hello = "[" + hello + "]"
	}
	dialer := &net.Dialer{Timeout: dialTime}
	dial := dialer.DialContext
	policy := map[string]gomail.TLSPolicy{StartTLS: gomail.TLSMandatory, Opportunistic: gomail.TLSOpportunistic, Plain: gomail.NoTLS}[p.Security]
	if p.Security == Implicit {
		dial = (&tls.Dialer{NetDialer: dialer, Config: p.tls}).DialContext
		policy = gomail.TLSOpportunistic // go-mail finds that the connection is encrypted
	}
	options := []gomail.Option{gomail.WithPort(p.Port), gomail.WithTimeout(p.wait), gomail.WithTLSConfig(p.tls), gomail.WithTLSPolicy(policy), gomail.WithHELO(hello),
		gomail.WithDialContextFunc(func(dialing context.Context, network, address string) (net.Conn, error) {
			c, err := dial(dialing, network, address)
			if err == nil {
				context.AfterFunc(ctx, func() { c.Close() }) // go-mail looks at a context no more once it is connected
			}
			return c, err
		})}
	if p.Username != "" {
		options = append(options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(p.Username), gomail.WithPassword(p.Password))
	}
	return gomail.NewClient(p.Host, options...)
}

// Later is an error after which a letter is tried again, ever more seldom.
type Later struct{ Err error }

func (l *Later) Error() string { return l.Err.Error() }

// Unwrap gives the cause.
func (l *Later) Unwrap() error { return l.Err }

// Pause is how long to wait after a number of tries: ten seconds, doubling, at most a quarter of an hour. Servers that do not know us yet let us wait for minutes.
func (l *Later) Pause(tries int) time.Duration {
	return min(10*time.Second<<min(max(tries, 1)-1, 10), 15*time.Minute)
}

// Deliver sends a letter. Errors: *compute.Fault, the server will never take it; *Later, it may.
func (p *Post) Deliver(ctx context.Context, l appstream.Letter) error {
	select {
	case p.lines <- struct{}{}:
		defer func() { <-p.lines }()
	case <-ctx.Done():
		return &Later{ctx.Err()}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // closes the connection
	client, err := p.client(ctx)
	if err != nil {
		return &Later{err}
	}
	// First the server, then the secret: one that cannot be reached must not make the secret of an earlier mail void, which may have got through.
	line, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return &Later{fmt.Errorf("the mail server cannot be reached: %w", err)}
	}
	defer client.CloseWithSMTPClient(line)
	u, c, err := p.contents(ctx, l)
	if appstream.KindOf(err) == appstream.ResourceNotFound {
		p.Log.InfoContext(ctx, "mail: nobody to write to any more", "kind", l.Kind, "user", l.UserID)
		return nil
	}
	if err != nil {
		return &Later{fmt.Errorf("prepare it: %w", err)}
	}
	m, err := p.message(l, u.Name, c)
	if err != nil {
		return &compute.Fault{Message: "the mail cannot be written: " + err.Error()}
	}
	// What is said after the server has taken the mail changes nothing.
	if err := client.SendWithSMTPClient(line, m); err != nil && !m.IsDelivered() {
		err = judge(err)
		// Only here does an administrator learn whose address it is that gets no mail.
		p.Log.WarnContext(ctx, "mail not taken", "kind", l.Kind, "user", l.UserID, "address", u.Name, "err", err)
		return err
	}
	p.Log.InfoContext(ctx, "mail sent", "kind", l.Kind, "user", l.UserID)
	return nil
}

// judge tells whether another try can succeed. What the server says of this mail or its recipient for good is for good; everything else may be mended.
func judge(err error) error {
	failed, ok := errors.AsType[*gomail.SendError](err)
	if ok && !failed.IsTemp() && failed.ErrorCode() >= 500 {
		switch failed.Reason {
		case gomail.ErrSMTPRcptTo, gomail.ErrSMTPData, gomail.ErrSMTPDataClose:
			return &compute.Fault{Message: fmt.Sprintf("the mail server refused it with code %d", failed.ErrorCode())}
		}
	}
	if ok { // its own text has the address
		return &Later{fmt.Errorf("the mail server did not take it: %s (code %d)", failed.Reason, failed.ErrorCode())}
	}
	return &Later{fmt.Errorf("send it: %w", err)}
}

// contents makes what a letter says, with its secret.
func (p *Post) contents(ctx context.Context, l appstream.Letter) (u appstream.User, c contents, err error) {
	var secret, title string
	switch l.Kind {
	case appstream.LetterWelcome:
		u, secret, err = p.Users.Invite(ctx, l.UserID)
	case appstream.LetterReset:
		u, secret, err = p.Users.MakeReset(ctx, l.UserID)
	case appstream.LetterStack:
		u, title, err = p.Users.Reader(ctx, l.UserID, l.Stack)
	default:
		err = fmt.Errorf("there is no letter of the kind %q", l.Kind)
	}
	if err != nil {
		return u, c, err
	}
	language := l.Language
	if language == "" {
		language = p.Language
	}
	c = write(l.Kind, language, facts{Name: strings.TrimSpace(u.FirstName), Address: u.Name, Portal: appstream.PortalURL(p.PublicURL, u.Account, u.Region), Secret: secret, Stack: title})
	return u, c, nil
}

// plainDomain writes the domain of an address as DNS has it, which servers take that want ASCII.
func plainDomain(address string) string {
	name, domain, _ := strings.Cut(address, "@")
	if plain, err := idna.Lookup.ToASCII(domain); err == nil {
		return name + "@" + plain
	}
	return address
}

// message makes the mail.
func (p *Post) message(l appstream.Letter, to string, c contents) (*gomail.Msg, error) {
	m := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	if err := m.From(p.From); err != nil {
		return nil, errors.New("the sender's address is not valid")
	}
	if err := m.To(plainDomain(to)); err != nil {
		return nil, errors.New("the user's address is not valid")
	}
	m.Subject(c.Subject)
	m.SetDate()
	m.SetMessageIDWithValue(fmt.Sprintf("%s.%d@%s", l.ID, l.Version, p.host))
	m.SetGenHeader("Auto-Submitted", "auto-generated") // or absent people's answers would come back
	m.SetGenHeader("Content-Language", c.Language)
	m.SetBodyString(gomail.TypeTextPlain, c.Text)
	m.AddAlternativeString(gomail.TypeTextHTML, c.HTML)
	return m, nil
}
