package mcpadmin

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
)

type portion struct {
	// Limit is how many there are at most.
	Limit int `json:"limit,omitzero" jsonschema:"How many at most"`
	// Team is whose they are.
	Team string `json:"team"`
}

// TestDescribe: all that an operation can say of itself is described.
func TestDescribe(t *testing.T) {
	h := &Handler{APIBasicAuth: true, base: "https://mcp.example.com/gateway", table: table{prefix: "/gateway"}}
	h.add(operation{method: http.MethodGet, path: "/things/{thing_id}/parts", summary: "Lists parts", query: portion{}, answer: listing[inner]{}, status: http.StatusOK})
	h.add(operation{method: http.MethodGet, path: "/things", summary: "Lists things", query: []string{"after"}, answer: listing[other]{}, status: http.StatusOK, access: takesBasic})
	h.add(operation{method: http.MethodDelete, path: "/things/{thing_id}", summary: "Ends a thing", group: "more", body: reading{}, optional: true, status: http.StatusNoContent})
	h.add(operation{
		method: http.MethodPost, path: "/oauth/things", summary: "Takes a form", body: reading{}, form: true, status: http.StatusOK, access: needsNothing,
		refusals: []int{http.StatusTooManyRequests}, failures: map[int]any{http.StatusBadRequest: inner{}},
	})
	d, err := h.describe()
	if err != nil {
		t.Fatal(err)
	}
	text, err := d.bytes()
	if err != nil {
		t.Fatal(err)
	}
	document, err := libopenapi.NewDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(document)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if ok, errs := v.ValidateDocument(); !ok {
		t.Errorf("it is no OpenAPI document: %v", errs[0].SchemaValidationErrors)
	}
	if _, err := h.print(d); err != nil {
		t.Error(err)
	}

	wantJSON(t, d.Servers, `[{"url":"https://mcp.example.com/gateway"}]`)
	wantJSON(t, d.Tags, `[{"name":"things"},{"name":"more"},{"name":"oauth"}]`)
	parts := d.Paths["/things/{thing_id}/parts"]["get"]
	wantJSON(t, parts.Parameters, `[
		{"name":"thing_id","in":"path","required":true,"schema":{"type":"string","minLength":1}},
		{"name":"limit","in":"query","description":"How many at most","schema":{"type":"integer"}},
		{"name":"team","in":"query","required":true,"schema":{"type":"string"}}]`)
	wantJSON(t, parts.Security, `[{"session":[]}]`)
	wantStatuses(t, parts, "200", "400", "401", "403", "404", "500", "503")
	things := d.Paths["/things"]["get"]
	wantJSON(t, things.Parameters, `[{"name":"after","in":"query","schema":{"type":"string"}}]`)
	wantJSON(t, things.Security, `[{"session":[]},{"password":[]}]`)
	wantStatuses(t, things, "200", "400", "401", "403", "429", "500", "503")
	end := d.Paths["/things/{thing_id}"]["delete"]
	wantJSON(t, end.RequestBody, `{"required":false,"content":{"application/json":{"schema":{"$ref":"#/components/schemas/Reading"}}}}`)
	wantJSON(t, end.Responses["204"], `{"description":"No Content"}`)
	wantStatuses(t, end, "204", "400", "401", "403", "404", "408", "409", "413", "415", "500", "503")
	form := d.Paths["/oauth/things"]["post"]
	wantJSON(t, form.Security, `[]`)
	wantJSON(t, form.RequestBody, `{"required":true,"content":{"application/x-www-form-urlencoded":{"schema":{"$ref":"#/components/schemas/Reading"}}}}`)
	wantJSON(t, form.Responses["400"].Content, `{"application/json":{"schema":{"$ref":"#/components/schemas/Inner"}}}`)
	wantStatuses(t, form, "200", "400", "408", "413", "415", "429", "500", "503")

	var ids []string
	for _, methods := range d.Paths {
		for _, o := range methods {
			ids = append(ids, o.ID)
		}
	}
	slices.Sort(ids)
	if !slices.Equal(ids, []string{"deleteThingsByThingId", "getThings", "getThingsByThingIdParts", "postOauthThings"}) {
		t.Errorf("the ids are %q", ids)
	}
}

func wantStatuses(t *testing.T, call *describedCall, expected ...string) {
	t.Helper()
	if got := sortedKeys(call.Responses); !slices.Equal(got, expected) {
		t.Errorf("%s has %q, expected %q", call.Summary, got, expected)
	}
}

// TestDescribeAgain: the document is the same each time.
func TestDescribeAgain(t *testing.T) {
	h := new(Handler)
	h.routeLogin()
	var first []byte
	for range 20 {
		d, err := h.describe()
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = text
		} else if string(first) != string(text) {
			t.Fatalf("got\n%s\nand\n%s", first, text)
		}
	}
}
