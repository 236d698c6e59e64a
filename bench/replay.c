/* Sends recorded Redis commands over some connections, each so many at a time, and counts answers.

   replay PORT DEPTH FILE...   one connection per file

   Prints: seconds, answers, answers that say "applied" (an array that begins with 1). It encodes
   nothing and makes nothing of an answer, so that no client that does can be faster. */

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST_FILES 64
#define ROOM (1 << 20)

typedef struct {
    int socket;
    char *commands, *next, *end; /* what is sent, and where the next command begins */
    char answers[ROOM];
    size_t held;     /* bytes of answers that are not whole yet */
    int outstanding; /* commands without an answer */
    long answered, applied;
} Connection;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

/* Behind the line that begins at `at`; NULL while it is not all there. */
static char *line_end(char *at, char *end) {
    char *found = memchr(at, '\n', end - at);
    return found ? found + 1 : NULL;
}

/* Behind the value that begins at `at`; NULL while it is not all there. */
static char *value_end(char *at, char *end) {
    char *behind = at < end ? line_end(at, end) : NULL;
    if (!behind) return NULL;
    long count = strtol(at + 1, NULL, 10);
    if (*at == '$') {
        if (count < 0) return behind;
        return end - behind >= count + 2 ? behind + count + 2 : NULL;
    }
    if (*at == '*')
        while (behind && count-- > 0) behind = value_end(behind, end);
    return behind;
}

static void load(Connection *to, const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) fail(path);
    long size = ftell(file);
    rewind(file);
    to->commands = malloc(size);
    if (!to->commands || fread(to->commands, 1, size, file) != (size_t)size) fail(path);
    to->next = to->commands;
    to->end = to->commands + size;
    fclose(file);
}

static void dial(Connection *to, int port) {
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(port)};
    int yes = 1;
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to->socket = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(to->socket, (struct sockaddr *)&place, sizeof place)) fail("connect");
    setsockopt(to->socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

static void send_some(Connection *to, int depth) {
    char *from = to->next;
    while (to->outstanding < depth && to->next < to->end) {
        to->next = value_end(to->next, to->end);
        if (!to->next) fail("a recorded command is not whole");
        to->outstanding++;
    }
    while (from < to->next) {
        ssize_t sent = write(to->socket, from, to->next - from);
        if (sent <= 0) fail("write");
        from += sent;
    }
}

static void receive(Connection *from) {
    ssize_t got = read(from->socket, from->answers + from->held, ROOM - from->held);
    if (got <= 0) fail("read");
    char *at = from->answers, *end = at + from->held + got, *behind;
    while ((behind = value_end(at, end))) {
        from->answered++;
        from->outstanding--;
        from->applied += !strncmp(strchr(at, '\n') + 1, ":1\r\n", 4);
        at = behind;
    }
    from->held = end - at;
    memmove(from->answers, at, from->held);
}

int main(int count, char **words) {
    static Connection connections[MOST_FILES];
    struct pollfd polled[MOST_FILES];
    int open = count - 3, depth = atoi(words[2]), busy = open;
    for (int i = 0; i < open; i++) {
        load(&connections[i], words[i + 3]);
        dial(&connections[i], atoi(words[1]));
        polled[i] = (struct pollfd){.fd = connections[i].socket, .events = POLLIN};
    }
    struct timespec start, stop;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < open; i++) send_some(&connections[i], depth);
    while (busy) {
        if (poll(polled, open, 10000) <= 0) fail("no answer");
        for (int i = 0; i < open; i++) {
            Connection *one = &connections[i];
            if (!(polled[i].revents & (POLLIN | POLLHUP))) continue;
            receive(one);
            if (one->outstanding) continue;
            send_some(one, depth);
            if (!one->outstanding) polled[i].fd = -1, busy--;
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &stop);
    long answered = 0, applied = 0;
    for (int i = 0; i < open; i++) {
        answered += connections[i].answered;
        applied += connections[i].applied;
    }
    printf("%f %ld %ld\n", (stop.tv_sec - start.tv_sec) + (stop.tv_nsec - start.tv_nsec) / 1e9,
           answered, applied);
    return 0;
}
