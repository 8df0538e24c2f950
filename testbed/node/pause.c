/* Holds the namespaces of a pod: it waits, and reaps what is left to it. With -v it says what it is and ends, as kubeadm asks of it. */
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int number) {
    (void)number;
    _exit(0);
}

static void reap(int number) {
    (void)number;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
}

int main(int count, char **arguments) {
    static const char said[] = "pause of a test bed\n";
    if (count > 1 && strcmp(arguments[1], "-v") == 0)
        return write(1, said, sizeof said - 1) < 0;
    signal(SIGINT, leave);
    signal(SIGTERM, leave);
    signal(SIGCHLD, reap);
    for (;;)
        pause();
}
