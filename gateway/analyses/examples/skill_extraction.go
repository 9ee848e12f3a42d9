func fetchAll(ctx context.Context, urls []string) (map[string][]byte, error) {
	var mu sync.Mutex
	pages := make(map[string][]byte, len(urls))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, url := range urls {
		group.Go(func() error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return fmt.Errorf("%s: %w", url, err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
			mu.Lock()
			defer mu.Unlock()
			pages[url] = body
			return err
		})
	}
	return pages, group.Wait()
}
