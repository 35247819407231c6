package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/push"
)

const (
	// readTimeout ends a read of the connection, pingEvery sees to it that there is
	// something to read before.
	readTimeout = 10 * time.Second
	pingEvery   = 3 * time.Second
	// thenEvery is how soon it is tried again what remains to be done after all was
	// read.
	thenEvery = 2 * time.Second
	// maxPushed bounds the keys that wait to be read. Beyond it all is read anew.
	maxPushed = 1_000_000
)

// pushed are the keys that Redis has told of and that were not read yet.
type pushed struct {
	mu   sync.Mutex
	keys []string
	err  error
	wake chan struct{}
}

// HandlePushNotification takes ["invalidate", keys], where no keys means all of them.
func (p *pushed) HandlePushNotification(_ context.Context, _ push.NotificationHandlerContext, message []any) error {
	if len(message) < 2 {
		return nil
	}
	names, ok := message[1].([]any)
	if !ok {
		p.fail(errors.New("redis was emptied"))
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range names {
		if key, ok := name.(string); ok {
			p.keys = append(p.keys, key)
		}
	}
	if len(p.keys) > maxPushed && p.err == nil {
		p.keys, p.err = nil, errors.New("too many changes at once")
	}
	p.signal()
	return nil
}

func (p *pushed) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
	p.signal()
}

func (p *pushed) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *pushed) take() ([]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	keys := p.keys
	p.keys = nil
	return keys, p.err
}

// connect follows one server by a connection of its own, and returns when that is of
// no more use.
func (f *feed) connect(ctx context.Context, from source) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	s := f.store
	address, err := s.address(ctx, from)
	if err != nil {
		return err
	}
	beatKey := s.beatKey(from.tag, rand.Text())
	queue := &pushed{wake: make(chan struct{}, 1)}
	var refused error
	client := s.feedClient(address, func(ctx context.Context, cn *goredis.Conn) error {
		args := append(make([]any, 0, 6+2*len(f.prefixes)), "client", "tracking", "on", "bcast", "prefix", beatKey)
		for _, prefix := range f.prefixes {
			args = append(args, "prefix", prefix)
		}
		err := cn.Do(ctx, args...).Err()
		var reply goredis.Error
		if errors.As(err, &reply) && (strings.HasPrefix(err.Error(), "NOPERM") || strings.HasPrefix(err.Error(), "ERR")) {
			refused = err
		}
		return err
	})
	defer client.Close()
	if err := client.RegisterPushNotificationHandler("invalidate", queue, false); err != nil {
		return err
	}
	started := time.Now()
	connection := client.Subscribe(ctx)
	if err := connection.Ping(ctx); err != nil {
		_ = connection.Close()
		if refused != nil {
			return fmt.Errorf("%w: %w", errUntracked, refused)
		}
		return err
	}
	running.Go(func() {
		for ctx.Err() == nil {
			if _, err := connection.ReceiveTimeout(ctx, readTimeout); err != nil {
				queue.fail(err)
				return
			}
		}
	})
	running.Go(func() {
		tick := time.NewTicker(pingEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				_ = connection.Close() // and so ends what is read from it
				return
			case <-tick.C:
				if err := connection.Ping(ctx); err != nil {
					queue.fail(err)
				}
			}
		}
	})
	node, err := s.node(ctx, beatKey)
	if err != nil {
		return err
	}
	if s.Cluster && node.Options().Addr != address {
		return errors.New("the slots of the cluster have moved")
	}
	s.checkEviction(ctx, node)
	then, err := f.load(ctx, node, f.tell)
	if err != nil {
		return err
	}
	f.reached(from, started)
	// Nobody is refused until it is done: this node knows what it must.
	running.Go(func() {
		for ctx.Err() == nil && then(ctx) != nil {
			pause(ctx, thenEvery)
		}
	})
	return f.listen(ctx, from, node, beatKey, queue)
}

// listen reads what was pushed. Beats make the feed current.
func (f *feed) listen(ctx context.Context, from source, node *goredis.Client, beatKey string, queue *pushed) error {
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer running.Wait()
	defer cancel()
	sent, came := make(chan time.Time), make(chan struct{}, 1)
	running.Go(func() { f.store.beats(ctx, beatKey, sent, came, queue) })
	var beatSent time.Time
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case beatSent = <-sent:
			continue
		case <-queue.wake:
		}
		keys, err := queue.take()
		if err != nil {
			return err
		}
		keys, beaten := without(keys, beatKey)
		if err := f.fetch(ctx, node, keys, f.tell); err != nil {
			return err
		}
		if beaten && !beatSent.IsZero() {
			f.reached(from, beatSent)
			beatSent = time.Time{}
			came <- struct{}{} // only one is ever under way
		}
	}
}

// beats writes the beat, and waits until it has come back before the next. Sent takes
// when a beat is going to be written; only one is ever under way.
func (s *Store) beats(ctx context.Context, key string, sent chan<- time.Time, came <-chan struct{}, queue *pushed) {
	timeout := time.NewTimer(beatTimeout)
	defer timeout.Stop()
	there, ever := false, false
	for {
		now := time.Now()
		select {
		case sent <- now:
		case <-ctx.Done():
			return
		}
		if err := s.beat(ctx, key, &there); err != nil {
			queue.fail(err)
			return
		}
		timeout.Reset(beatTimeout)
		select {
		case <-came:
			ever = true
		case <-timeout.C:
			if err := errors.New("changes do not come through"); ever {
				queue.fail(err)
			} else {
				queue.fail(fmt.Errorf("%w: %w", errUntracked, err))
			}
			return
		case <-ctx.Done():
			return
		}
		pause(ctx, time.Until(now.Add(beatEvery)))
	}
}

// beat changes a key. To set a new time to live is a change that Redis permits even
// when it has no more memory.
func (s *Store) beat(ctx context.Context, key string, there *bool) error {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	if *there {
		still, err := s.client.PExpire(ctx, key, beatLife).Result()
		if err != nil || still {
			return err
		}
	}
	err := s.client.Set(ctx, key, "1", beatLife).Err()
	*there = err == nil
	return err
}

// address is where the master is.
func (s *Store) address(ctx context.Context, from source) (string, error) {
	switch {
	case s.Cluster:
		return from.address, nil
	case s.Master == "":
		return s.Addresses[0], nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	return s.master(ctx)
}

// checkEviction warns of a Redis that forgets what it likes. It may not be permitted
// to ask.
func (s *Store) checkEviction(ctx context.Context, node *goredis.Client) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	info, err := node.Info(ctx, "memory").Result()
	if err != nil {
		return
	}
	var limit, policy string
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "maxmemory":
			limit = value
		case "maxmemory_policy":
			policy = value
		}
	}
	if policy != "" && policy != "noeviction" && limit != "0" {
		s.warn("redis evicts keys when its memory is full, and then revoked tokens are good again; set maxmemory-policy noeviction",
			fmt.Errorf("maxmemory-policy is %s", policy))
	}
}
