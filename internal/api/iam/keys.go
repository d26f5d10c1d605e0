package iam

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Request is what a policy is asked about. What is not known is the zero value; conditions take it for absent.
type Request struct {
	Action   string // for example appstream:DescribeImages
	Resource string // an ARN, or "*" for none in particular, which only patterns match that match everything

	Principal string // aws:PrincipalArn: who asks
	Account   string // aws:PrincipalAccount: twelve digits
	Region    string // aws:RequestedRegion
	Source    netip.Addr
	Secure    bool // it came over HTTPS
	UserAgent string
	Time      time.Time // when it came

	RequestTags  map[string]string // tags that are to be given to a resource
	TagKeys      []string          // keys of tags that are to be given or taken away
	ResourceTags map[string]string // tags that Resource has; needed only if Policy.ReadsResourceTags says so

	PassedToService string // iam:PassedToService: to which service a role is to be given
}

// keyID says what a condition key is about.
type keyID int

const (
	unknown      keyID = iota // no request has it
	currentTime               // dates are of whole seconds, as AWS's are
	epochTime                 // the same as a number
	passedTo                  // iam:PassedToService
	principalARN              // of a role session: the role's
	principalAccount
	principalType
	region
	requestTag // one of Request.RequestTags
	resourceAccount
	resourceTag // one of Request.ResourceTags
	secure
	source
	tagKeys // several values
	userAgent
	userName  // of users, not of roles and of the account's root
	byService // whether a service asks, which is never so
)

// key is a condition key. Its name has no case.
type key struct {
	id   keyID
	name string // as it is written
	tag  string // of requestTag and resourceTag: which
}

// keyIDs has the keys that requests have, in lower case.
var keyIDs = map[string]keyID{
	"aws:currenttime": currentTime, "aws:epochtime": epochTime, "aws:principalaccount": principalAccount, "aws:principalarn": principalARN,
	"aws:principalisawsservice": byService, "aws:principaltype": principalType, "aws:requestedregion": region, "aws:resourceaccount": resourceAccount,
	"aws:securetransport": secure, "aws:sourceip": source, "aws:tagkeys": tagKeys, "aws:useragent": userAgent, "aws:username": userName,
	"aws:viaawsservice": byService, "iam:passedtoservice": passedTo,
}

// absences says of AWS's keys why no request has them here. Those that end in a slash are followed by the key of a tag.
var absences = map[string]string{
	"appstream:userid":           "only the action Stream of federated users has it, and nobody is federated here",
	"aws:federatedprovider":      "nobody is federated here",
	"aws:multifactorauthage":     "access keys are without a second factor",
	"aws:multifactorauthpresent": "access keys are without a second factor",
	"aws:principalorgid":         "there are no organizations here",
	"aws:principalorgpaths":      "there are no organizations here",
	"aws:principaltag/":          "principals have no tags here",
	"aws:resourceorgid":          "there are no organizations here",
	"aws:sourcevpc":              "requests pass no VPC endpoints here",
	"aws:sourcevpce":             "requests pass no VPC endpoints here",
	"aws:tokenissuetime":         "access keys are not temporary here",
	"aws:userid":                 "principals have an ARN and no other identifier here",
	"aws:vpcsourceip":            "requests pass no VPC endpoints here",
}

func keyOf(name string) key {
	k := key{name: name}
	prefix, tag, tagged := strings.Cut(name, "/")
	switch prefix = strings.ToLower(prefix); {
	case tagged && tag != "" && prefix == "aws:requesttag":
		k.id, k.tag = requestTag, tag
	case tagged && tag != "" && prefix == "aws:resourcetag":
		k.id, k.tag = resourceTag, tag
	default:
		k.id = keyIDs[strings.ToLower(name)]
	}
	return k
}

// present tells whether a request can have the key.
func (k key) present() bool { return k.id != unknown }

// absence says why no request has the key.
func (k key) absence() string {
	name := strings.ToLower(k.name)
	if prefix, _, tagged := strings.Cut(name, "/"); tagged {
		name = prefix + "/"
	}
	if why, ok := absences[name]; ok {
		return why
	}
	return "the server does not know it"
}

// expected tells whether a key that no request has belongs into policies for AppStream all the same.
func (k key) expected() bool { return strings.EqualFold(k.name, "appstream:userId") }

// values appends what a request has of the key; nothing when it does not have it.
func (k *key) values(r *Request, list []string) []string {
	switch k.id {
	case currentTime:
		if !r.Time.IsZero() {
			return append(list, r.Time.UTC().Format("2006-01-02T15:04:05Z"))
		}
	case epochTime:
		if !r.Time.IsZero() {
			return append(list, strconv.FormatInt(r.Time.Unix(), 10))
		}
	case requestTag:
		return tagged(r.RequestTags, k.tag, list)
	case resourceTag:
		return tagged(r.ResourceTags, k.tag, list)
	case tagKeys:
		return append(list, r.TagKeys...)
	case secure:
		return append(list, strconv.FormatBool(r.Secure))
	case byService:
		return append(list, "false")
	case source:
		if r.Source.IsValid() {
			return append(list, r.Source.String())
		}
	default:
		if s := k.text(r); s != "" {
			return append(list, s)
		}
	}
	return list
}

// text gives a key that is some text; "" when the request does not have it.
func (k *key) text(r *Request) string {
	switch k.id {
	case passedTo:
		return r.PassedToService
	case principalAccount:
		return r.Account
	case region:
		return r.Region
	case userAgent:
		return r.UserAgent
	case resourceAccount:
		if part := strings.SplitN(r.Resource, ":", 6); len(part) == 6 {
			return part[4]
		}
		return ""
	}
	// What is left is about the principal: arn:aws:iam::ACCOUNT:root, …:user/PATH/NAME, …:role/NAME, or arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION.
	part := strings.SplitN(r.Principal, ":", 6)
	if len(part) < 6 {
		return ""
	}
	kind, name, _ := strings.Cut(part[5], "/")
	switch k.id {
	case principalARN:
		if kind == "assumed-role" {
			role, _, _ := strings.Cut(name, "/")
			return "arn:" + part[1] + ":iam::" + part[4] + ":role/" + role
		}
		return r.Principal
	case principalType:
		switch kind {
		case "root":
			return "Account"
		case "user":
			return "User"
		case "role", "assumed-role":
			return "AssumedRole"
		}
	case userName:
		if kind == "user" {
			return name[strings.LastIndexByte(name, '/')+1:]
		}
	}
	return ""
}

// tagged appends the value of a tag. The names of condition keys have no case, those of tags have: of several that differ in nothing else, the one that is
// written as in the policy counts, else the first in the alphabet, so that a tag added beside another cannot take its place.
func tagged(tags map[string]string, name string, list []string) []string {
	if v, ok := tags[name]; ok {
		return append(list, v)
	}
	best, found := "", false
	for k := range tags {
		if strings.EqualFold(k, name) && (!found || k < best) {
			best, found = k, true
		}
	}
	if found {
		return append(list, tags[best])
	}
	return list
}
