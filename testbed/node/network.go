// The network plugin of the test bed's node image: writes the configuration from which containerd gives pods their addresses,
// and keeps a route to the pods of every other node. It serves IPv4 on nodes that reach each other directly.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	account       = "/var/run/secrets/kubernetes.io/serviceaccount/"
	configuration = "/etc/cni/net.d/10-testbed.conflist"
	longestWatch  = 300 * time.Second
	pause         = 500 * time.Millisecond
)

type node struct {
	Metadata struct{ Name string }
	Spec     struct {
		PodCIDR string `json:"podCIDR"`
	}
	Status struct {
		Addresses []struct{ Type, Address string }
	}
}

type list struct {
	Metadata struct{ ResourceVersion string }
	Items    []node
}

func (n node) address() string {
	for _, address := range n.Status.Addresses {
		if address.Type == "InternalIP" && net.ParseIP(address.Address).To4() != nil {
			return address.Address
		}
	}
	return ""
}

type server struct {
	at     string
	client *http.Client
}

func connect() (*server, error) {
	authority, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	at := os.Getenv("CONTROL_PLANE_ENDPOINT")
	if at == "" {
		at = net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	return &server{at: "https://" + at, client: &http.Client{Transport: transport}}, nil
}

func (s *server) get(ctx context.Context, path string) (*http.Response, error) {
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.at+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	reply, err := s.client.Do(request)
	if err == nil && reply.StatusCode != http.StatusOK {
		reply.Body.Close()
		err = fmt.Errorf("GET %s: %s", path, reply.Status)
	}
	return reply, err
}

func (s *server) nodes() (all list, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	reply, err := s.get(ctx, "/api/v1/nodes")
	if err != nil {
		return all, err
	}
	defer reply.Body.Close()
	return all, json.NewDecoder(reply.Body).Decode(&all)
}

// Returns when something of the nodes that counts here may have changed.
func (s *server) wait(version string, known map[string]string) {
	ctx, cancel := context.WithTimeout(context.Background(), longestWatch)
	defer cancel()
	reply, err := s.get(ctx, "/api/v1/nodes?watch=1&resourceVersion="+version)
	if err != nil {
		time.Sleep(pause)
		return
	}
	defer reply.Body.Close()
	lines := bufio.NewReaderSize(reply.Body, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var event struct {
			Type   string
			Object node
		}
		if json.Unmarshal(line, &event) != nil || event.Type != "MODIFIED" {
			return
		}
		if known[event.Object.Spec.PodCIDR] != event.Object.address() {
			return
		}
	}
}

func run(program string, arguments ...string) error {
	output, err := exec.Command(program, arguments...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(arguments, " "), err, output)
	}
	return nil
}

func write(cidr string) error {
	text := fmt.Sprintf(`{"cniVersion": "0.3.1", "name": "testbed", "plugins": [
  {"type": "ptp", "ipMasq": false, "mtu": 1500,
   "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam", "routes": [{"dst": "0.0.0.0/0"}], "ranges": [[{"subnet": "%s"}]]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
`, cidr)
	if known, err := os.ReadFile(configuration); err == nil && string(known) == text {
		return nil
	}
	fresh := filepath.Join(filepath.Dir(configuration), ".testbed.new")
	if err := os.WriteFile(fresh, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, configuration)
}

// What leaves the pods' network bears the node's address.
func masquerade(subnet string) error {
	rule := []string{"POSTROUTING", "-s", subnet, "!", "-d", subnet, "-m", "addrtype", "!", "--dst-type", "LOCAL", "-j", "MASQUERADE"}
	if run("iptables", append([]string{"-w", "-t", "nat", "-C"}, rule...)...) == nil {
		return nil
	}
	return run("iptables", append([]string{"-w", "-t", "nat", "-A"}, rule...)...)
}

func main() {
	own, subnet := os.Getenv("NODE_NAME"), os.Getenv("POD_SUBNET")
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		log.Print(err)
	}
	s, err := connect()
	if err != nil {
		log.Fatal(err)
	}
	routes := map[string]string{}
	for {
		all, err := s.nodes()
		if err != nil {
			log.Print(err)
			time.Sleep(pause)
			continue
		}
		known := map[string]string{}
		for _, each := range all.Items {
			cidr, address := each.Spec.PodCIDR, each.address()
			known[cidr] = address
			if cidr == "" || address == "" {
				continue
			}
			if each.Metadata.Name == own {
				if err := write(cidr); err != nil {
					log.Print(err)
				}
				continue
			}
			if routes[cidr] != address {
				if err := run("ip", "route", "replace", cidr, "via", address); err != nil {
					log.Print(err)
					continue
				}
				routes[cidr] = address
			}
		}
		for cidr := range routes {
			if known[cidr] == "" {
				if err := run("ip", "route", "delete", cidr); err != nil {
					log.Print(err)
				}
				delete(routes, cidr)
			}
		}
		if err := masquerade(subnet); err != nil {
			log.Print(err)
		}
		s.wait(all.Metadata.ResourceVersion, known)
	}
}
