package differential

import (
	"encoding/json"
	"strings"
)

// goAnswer reads as clients in Go do that decode into structs with encoding/json.
func goAnswer(body []byte) answerView {
	raws := []json.RawMessage{body}
	if isArray(body) {
		raws = nil
		if err := json.Unmarshal(body, &raws); err != nil {
			return answerView{Error: err.Error()}
		}
	}
	var v answerView
	for _, raw := range raws {
		var m struct {
			Method string
			Result json.RawMessage
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			return answerView{Error: err.Error()}
		}
		var result struct {
			Tools, Prompts      []struct{ Name string }
			Resources, Contents []struct{ URI string }
			ResourceTemplates   []struct{ URITemplate string }
		}
		if len(m.Result) > 0 {
			// As by those who only want a part of it: what fits is filled in even
			// if something else does not.
			_ = json.Unmarshal(m.Result, &result)
		}
		lists := map[string][]string{}
		add := func(list, key string) { lists[list] = append(lists[list], canonicalString(key)) }
		for _, item := range result.Tools {
			add("tools", item.Name)
		}
		for _, item := range result.Prompts {
			add("prompts", item.Name)
		}
		for _, item := range result.Resources {
			add("resources", item.URI)
		}
		for _, item := range result.Contents {
			add("contents", item.URI)
		}
		for _, item := range result.ResourceTemplates {
			add("resourceTemplates", item.URITemplate)
		}
		var asks []string
		if m.Method != "" {
			asks = []string{m.Method}
		}
		v.Messages = append(v.Messages, answerMessage{lists, asks})
	}
	return v
}

// goStream reads an event stream by lines that end at LF alone.
func goStream(body []byte) answerView {
	var v answerView
	var data []string
	for line := range strings.Lines(string(body) + "\n\n") {
		line = strings.TrimRight(line, "\r\n")
		if value, ok := strings.CutPrefix(line, "data:"); ok {
			data = append(data, value)
		} else if line == "" {
			v.Messages = append(v.Messages, goAnswer([]byte(strings.Join(data, "\n"))).Messages...)
			data = nil
		}
	}
	return v
}
