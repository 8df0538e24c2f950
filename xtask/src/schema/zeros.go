// Prints what the OpenAPI of Kubernetes does not say: which fields of its types are left out of JSON when they are zero, which
// are always written, and the numbers by which protobuf knows them. It is read from the published types by reflection.
package main

import (
	"encoding/json"
	"os"
	"reflect"
	"sort"
	"strings"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

type fields struct {
	Omitted []string `json:"omitted,omitempty"`
	Written []string `json:"written,omitempty"`
	// A field's name by its number, or the numbers within a message that JSON writes into its owner.
	Numbers map[string]any `json:"numbers,omitempty"`
}

var found = map[string]*fields{}

// The name of a type as OpenAPI has it: its package with the domain's parts turned around.
func name(of reflect.Type) string {
	parts := strings.Split(of.PkgPath(), "/")
	domain := strings.Split(parts[0], ".")
	for i, j := 0, len(domain)-1; i < j; i, j = i+1, j-1 {
		domain[i], domain[j] = domain[j], domain[i]
	}
	parts[0] = strings.Join(domain, ".")
	return strings.Join(parts, ".") + "." + of.Name()
}

func walk(of reflect.Type) {
	switch of.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		walk(of.Elem())
		return
	case reflect.Struct:
	default:
		return
	}
	if _, known := found[name(of)]; known {
		return
	}
	own := &fields{Numbers: map[string]any{}}
	found[name(of)] = own
	if _, custom := reflect.New(of).Interface().(json.Marshaler); custom {
		return
	}
	collect(of, own, own.Numbers)
	sort.Strings(own.Omitted)
	sort.Strings(own.Written)
}

func collect(of reflect.Type, own *fields, numbers map[string]any) {
	for i := 0; i < of.NumField(); i++ {
		field := of.Field(i)
		if !field.IsExported() {
			continue
		}
		tag := strings.Split(field.Tag.Get("json"), ",")
		options := strings.Join(tag[1:], ",")
		number := ""
		if parts := strings.Split(field.Tag.Get("protobuf"), ","); len(parts) > 1 {
			number = parts[1]
		}
		if field.Anonymous && tag[0] == "" {
			inner := numbers
			if number != "" {
				inner = map[string]any{}
				numbers[number] = inner
			}
			collect(field.Type, own, inner)
			continue
		}
		if number != "" && tag[0] != "" && tag[0] != "-" {
			numbers[number] = tag[0]
		}
		walk(field.Type)
		omits := strings.Contains(options, "omitempty")
		zero := strings.Contains(options, "omitzero")
		kind := field.Type.Kind()
		switch {
		case tag[0] == "-" || tag[0] == "":
		case kind == reflect.Pointer || kind == reflect.Interface:
		case kind == reflect.Struct && zero, kind != reflect.Struct && (omits || zero):
			own.Omitted = append(own.Omitted, tag[0])
		default:
			own.Written = append(own.Written, tag[0])
		}
	}
}

func main() {
	for _, add := range []error{apiextensions.AddToScheme(scheme.Scheme), apiregistration.AddToScheme(scheme.Scheme)} {
		if add != nil {
			panic(add)
		}
	}
	for _, known := range scheme.Scheme.AllKnownTypes() {
		walk(known)
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		panic(err)
	}
}
