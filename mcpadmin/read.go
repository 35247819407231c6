package mcpadmin

import (
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxBody bounds a body, in bytes.
const maxBody = 64 << 10

// text is a string in a body. Unlike one of Go's, it is not made of null.
type text string

var errNoText = errors.New("not a string")

// UnmarshalJSONFrom reads it.
func (t *text) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	value, err := d.ReadToken()
	if err != nil {
		return err
	}
	if value.Kind() != '"' {
		return errNoText
	}
	*t = text(value.String())
	return nil
}

// read reads a body, an object, into what it should be. Unknown members, repeated ones and wrong types are errors, and so is anything that two readers could
// understand differently (RFC 8259, I-JSON of RFC 7493).
func read(w http.ResponseWriter, r *http.Request, into any) error {
	body, err := load(w, r, "application/json")
	if err != nil {
		return err
	}
	return decode(body, into)
}

// load reads the bytes of a body of a kind.
func load(w http.ResponseWriter, r *http.Request, wanted string) ([]byte, error) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset, given := params["charset"]
	if err != nil || kind != wanted || given && !strings.EqualFold(charset, "utf-8") || len(r.Header["Content-Type"]) > 1 {
		return nil, &refusal{status: http.StatusUnsupportedMediaType, reason: "content_type", message: "the body must be " + wanted}
	}
	if len(r.Header["Content-Encoding"]) > 0 {
		return nil, &refusal{status: http.StatusUnsupportedMediaType, reason: "content_encoding", message: "the body must not be encoded"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &refusal{status: http.StatusRequestEntityTooLarge, reason: "body_too_large", message: "the body is too large"}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &refusal{status: http.StatusRequestTimeout, reason: "body_timeout", message: "the body took too long"}
	case err != nil:
		return nil, &refusal{status: http.StatusBadRequest, reason: "body_incomplete", message: "the body could not be read"}
	}
	return body, nil
}

// decode reads an object from a body.
func decode(body []byte, into any) error {
	if kind := jsontext.Value(body).Kind(); kind != '{' {
		return malformed("the body must be a JSON object")
	}
	if err := json.Unmarshal(body, into, json.RejectUnknownMembers(true)); err != nil {
		return explain(err)
	}
	return nil
}

func malformed(message string) error {
	return &refusal{status: http.StatusBadRequest, reason: "json_invalid", message: message}
}

// explain tells what is wrong with a body, without what is in it.
func explain(err error) error {
	var semantic *json.SemanticError
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return malformed("a member of the body is there twice")
	case errors.Is(err, json.ErrUnknownName):
		return malformed("the body has an unknown member")
	case errors.As(err, &semantic):
		return malformed("a member of the body has the wrong type")
	}
	return malformed("the body is not JSON")
}

// need refuses a body without one of the members, or with an empty one.
func need(members map[string]text) error {
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if members[name] == "" {
			return &refusal{status: http.StatusBadRequest, reason: "member_missing", message: "the body needs the member " + name}
		}
	}
	return nil
}

// nulls returns which members of a body are null, and so neither left out nor given.
func nulls(body []byte) (map[string]bool, error) {
	var members map[string]jsontext.Value
	if err := decode(body, &members); err != nil {
		return nil, err
	}
	found := make(map[string]bool)
	for name, value := range members {
		if value.Kind() == 'n' {
			found[name] = true
		}
	}
	return found, nil
}
