// Command informers follows pods, deployments and a custom resource with client-go's shared informers, as controllers do, and
// tells each event and each request as a line of JSON. Per line that it reads it tells what its caches hold; at the end of its
// input it ends.
//
//	informers KUBECONFIG things.v1.example.com
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

type line struct {
	// add, update, delete, request, synced or cache.
	Event    string `json:"event"`
	Resource string `json:"resource,omitempty"`
	// Namespace and name of an object; path and query of a request.
	Name string `json:"name,omitempty"`
	// Versions of all objects in a cache, by namespace and name.
	Versions map[string]string `json:"versions,omitempty"`
}

var telling sync.Mutex

func tell(told line) {
	telling.Lock()
	defer telling.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(told); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// asked tells each request before it is made.
type asked struct{ http.RoundTripper }

func (through asked) RoundTrip(request *http.Request) (*http.Response, error) {
	tell(line{Event: "request", Name: request.URL.RequestURI()})
	return through.RoundTripper.RoundTrip(request)
}

func name(object any) string {
	key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object)
	if err != nil {
		return err.Error()
	}
	return key
}

func follow(resource string, informer cache.SharedIndexInformer) error {
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { tell(line{Event: "add", Resource: resource, Name: name(object)}) },
		UpdateFunc: func(_, object any) { tell(line{Event: "update", Resource: resource, Name: name(object)}) },
		DeleteFunc: func(object any) { tell(line{Event: "delete", Resource: resource, Name: name(object)}) },
	})
	return err
}

func held(resource string, informer cache.SharedIndexInformer) line {
	versions := map[string]string{}
	for _, object := range informer.GetStore().List() {
		if accessor, err := meta.Accessor(object); err == nil {
			versions[name(object)] = accessor.GetResourceVersion()
		}
	}
	return line{Event: "cache", Resource: resource, Versions: versions}
}

func run(kubeconfig, custom string) error {
	resource, _ := schema.ParseResourceArg(custom)
	if resource == nil {
		return fmt.Errorf("%s is not of the form things.v1.example.com", custom)
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.Wrap(func(through http.RoundTripper) http.RoundTripper { return asked{through} })
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	dynamicClient, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	typed := informers.NewSharedInformerFactory(client, 0)
	others := dynamicinformer.NewDynamicSharedInformerFactory(dynamicClient, 0)
	followed := []struct {
		resource string
		informer cache.SharedIndexInformer
	}{
		{"pods", typed.Core().V1().Pods().Informer()},
		{"deployments", typed.Apps().V1().Deployments().Informer()},
		{resource.Resource, others.ForResource(*resource).Informer()},
	}
	for _, each := range followed {
		if err := follow(each.resource, each.informer); err != nil {
			return err
		}
	}
	typed.Start(ctx.Done())
	others.Start(ctx.Done())
	for _, each := range followed {
		if !cache.WaitForCacheSync(ctx.Done(), each.informer.HasSynced) {
			return fmt.Errorf("the cache of %s is not filled", each.resource)
		}
	}
	tell(line{Event: "synced"})
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		for _, each := range followed {
			tell(held(each.resource, each.informer))
		}
	}
	return input.Err()
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: informers KUBECONFIG RESOURCE.VERSION.GROUP")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
