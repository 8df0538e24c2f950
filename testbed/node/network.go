// The network plugin of the test bed's node image: writes the configuration from which containerd gives pods their addresses,
// and keeps a route to the pods of every other node. It serves IPv4, IPv6 or both, on nodes that reach each other directly.
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
		PodCIDRs []string `json:"podCIDRs"`
	}
	Status struct {
		Addresses []struct{ Type, Address string }
	}
}

type list struct {
	Metadata struct{ ResourceVersion string }
	Items    []node
}

func isIPv6(text string) bool { return strings.Contains(text, ":") }

// The node's own address in the family of a range.
func (n node) address(cidr string) string {
	for _, address := range n.Status.Addresses {
		if address.Type == "InternalIP" && isIPv6(address.Address) == isIPv6(cidr) {
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
		for _, cidr := range event.Object.Spec.PodCIDRs {
			if known[cidr] != event.Object.address(cidr) {
				return
			}
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

func write(cidrs []string) error {
	var routes, ranges []string
	for _, cidr := range cidrs {
		everything := "0.0.0.0/0"
		if isIPv6(cidr) {
			everything = "::/0"
		}
		routes = append(routes, fmt.Sprintf(`{"dst": "%s"}`, everything))
		ranges = append(ranges, fmt.Sprintf(`[{"subnet": "%s"}]`, cidr))
	}
	text := fmt.Sprintf(`{"cniVersion": "0.3.1", "name": "testbed", "plugins": [
  {"type": "ptp", "ipMasq": false, "mtu": 1500,
   "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam", "routes": [%s], "ranges": [%s]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
`, strings.Join(routes, ", "), strings.Join(ranges, ", "))
	if known, err := os.ReadFile(configuration); err == nil && string(known) == text {
		return nil
	}
	fresh := filepath.Join(filepath.Dir(configuration), ".testbed.new")
	if err := os.WriteFile(fresh, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, configuration)
}

// A route of either family.
func route(cidr string, arguments ...string) error {
	family := "-4"
	if isIPv6(cidr) {
		family = "-6"
	}
	return run("ip", append([]string{family, "route"}, arguments...)...)
}

// What leaves the pods' network bears the node's address.
func masquerade(subnet string) error {
	program := "iptables"
	if isIPv6(subnet) {
		program = "ip6tables"
	}
	rule := []string{"POSTROUTING", "-s", subnet, "!", "-d", subnet, "-m", "addrtype", "!", "--dst-type", "LOCAL", "-j", "MASQUERADE"}
	if run(program, append([]string{"-w", "-t", "nat", "-C"}, rule...)...) == nil {
		return nil
	}
	return run(program, append([]string{"-w", "-t", "nat", "-A"}, rule...)...)
}

func main() {
	own, subnets := os.Getenv("NODE_NAME"), strings.Split(os.Getenv("POD_SUBNET"), ",")
	for _, file := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if err := os.WriteFile("/proc/sys/net/"+file, []byte("1"), 0o644); err != nil {
			log.Print(err)
		}
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
			cidrs := each.Spec.PodCIDRs
			for _, cidr := range cidrs {
				known[cidr] = each.address(cidr)
			}
			if each.Metadata.Name == own {
				if len(cidrs) > 0 && known[cidrs[0]] != "" {
					if err := write(cidrs); err != nil {
						log.Print(err)
					}
				}
				continue
			}
			for _, cidr := range cidrs {
				address := known[cidr]
				if address == "" || routes[cidr] == address {
					continue
				}
				if err := route(cidr, "replace", cidr, "via", address); err != nil {
					log.Print(err)
					continue
				}
				routes[cidr] = address
			}
		}
		for cidr := range routes {
			if known[cidr] == "" {
				if err := route(cidr, "delete", cidr); err != nil {
					log.Print(err)
				}
				delete(routes, cidr)
			}
		}
		for _, subnet := range subnets {
			if err := masquerade(subnet); err != nil {
				log.Print(err)
			}
		}
		s.wait(all.Metadata.ResourceVersion, known)
	}
}
