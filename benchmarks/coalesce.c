/* The limit that the benchmarks compare with: one group or some pairs, no sign-in, no rules, nothing but the kernel's cost.
 *
 * What comes is taken as it is: at each turn everything read of a connection goes on to all others in one send for each.
 * A message is never cut from its stream, so the joining costs nothing either. What a socket does not take waits, up to
 * MAX_WAITING bytes, and a connection that is further behind is closed.
 *
 * A pair has a number of six digits. Its receiver begins with "<" and that, and then its sender with ">" and that: what
 * the sender says from then on goes to the receiver alone.
 *
 * Prints "ready PORT". A connection counts as joined when it has been answered one byte of that which it began with: "+"
 * in the group.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_SOCKETS 65536
#define READ_BYTES 65536
#define MAX_WAITING (8 << 20)
#define MAX_EVENTS 256
#define MAX_PAIRS 1000000
#define PAIR_DIGITS 6

struct connection {
    int is_joined;
    int place;
    /* of a sender; 0 = none */
    int receiver;
    uint8_t *waiting;
    size_t waiting_bytes;
};

static struct connection connections[MAX_SOCKETS];
static int joined[MAX_SOCKETS];
static int joined_count;
static int receivers[MAX_PAIRS];
static int poll_socket;
static uint8_t buffer[READ_BYTES];

static void watch(int how, int socket, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = socket};
    epoll_ctl(poll_socket, how, socket, &event);
}

static void drop(int socket) {
    struct connection *connection = &connections[socket];
    if (connection->is_joined) {
        int last = joined[--joined_count];
        joined[connection->place] = last;
        connections[last].place = connection->place;
    }
    free(connection->waiting);
    memset(connection, 0, sizeof *connection);
    close(socket);
}

static int pair_number(void) {
    int number = 0;
    for (int index = 1; index <= PAIR_DIGITS; index++) number = number * 10 + (buffer[index] & 15) % 10;
    return number;
}

static void join(int socket, ssize_t size) {
    int is_pair = size > PAIR_DIGITS && (buffer[0] == '<' || buffer[0] == '>');
    connections[socket].is_joined = 1;
    connections[socket].place = joined_count;
    joined[joined_count++] = socket;
    if (is_pair && buffer[0] == '<') receivers[pair_number()] = socket;
    if (is_pair && buffer[0] == '>') connections[socket].receiver = receivers[pair_number()];
    send(socket, buffer, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Returns whether the connection lives. */
static int keep(int socket, const uint8_t *data, size_t size) {
    struct connection *connection = &connections[socket];
    if (connection->waiting_bytes + size > MAX_WAITING) return 0;
    uint8_t *waiting = realloc(connection->waiting, connection->waiting_bytes + size);
    if (!waiting) return 0;
    memcpy(waiting + connection->waiting_bytes, data, size);
    if (!connection->waiting_bytes) watch(EPOLL_CTL_MOD, socket, EPOLLIN | EPOLLOUT);
    connection->waiting = waiting;
    connection->waiting_bytes += size;
    return 1;
}

static int deliver(int socket, size_t size) {
    if (connections[socket].waiting_bytes) return keep(socket, buffer, size);
    ssize_t sent = send(socket, buffer, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return 0;
    if (sent < 0) sent = 0;
    return (size_t)sent == size || keep(socket, buffer + sent, size - (size_t)sent);
}

static void write_waiting(int socket) {
    struct connection *connection = &connections[socket];
    ssize_t sent = send(socket, connection->waiting, connection->waiting_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent <= 0) return;
    connection->waiting_bytes -= (size_t)sent;
    memmove(connection->waiting, connection->waiting + sent, connection->waiting_bytes);
    if (connection->waiting_bytes) return;
    free(connection->waiting);
    connection->waiting = NULL;
    watch(EPOLL_CTL_MOD, socket, EPOLLIN);
}

static void serve(int socket) {
    ssize_t size = recv(socket, buffer, READ_BYTES, MSG_DONTWAIT);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) {
        drop(socket);
        return;
    }
    if (!connections[socket].is_joined) {
        join(socket, size);
        return;
    }
    if (connections[socket].receiver) {
        if (!deliver(connections[socket].receiver, (size_t)size)) drop(connections[socket].receiver);
        return;
    }
    for (int index = 0; index < joined_count; index++) {
        int member = joined[index];
        if (member == socket || deliver(member, (size_t)size)) continue;
        drop(member);
        index--;
    }
}

int main(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    struct epoll_event events[MAX_EVENTS];
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) return 1;
    getsockname(listener, (struct sockaddr *)&address, &length);
    poll_socket = epoll_create1(0);
    watch(EPOLL_CTL_ADD, listener, EPOLLIN);
    printf("ready %d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(poll_socket, events, MAX_EVENTS, -1);
        for (int index = 0; index < count; index++) {
            int socket = events[index].data.fd;
            if (socket != listener) {
                if (events[index].events & EPOLLOUT && connections[socket].waiting_bytes) write_waiting(socket);
                if (events[index].events & ~(uint32_t)EPOLLOUT) serve(socket);
                continue;
            }
            int connection = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
            if (connection < 0) continue;
            if (connection >= MAX_SOCKETS) {
                close(connection);
                continue;
            }
            setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
            watch(EPOLL_CTL_ADD, connection, EPOLLIN);
        }
    }
}
