package embedded

import (
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

// unmake removes a file that was made since the store was opened and that nothing was
// written to, and the folders that were made for it. So a configuration that was rejected,
// since another app could not be started after the store was opened, leaves no trace.
func (s *Store) unmake(f *openFile) error {
	if f.made == nil {
		return nil
	}
	empty := true
	err := f.db.View(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{recordsBucket, revocationsBucket, expiriesBucket, countersBucket} {
			if key, _ := tx.Bucket(name).Cursor().First(); key != nil {
				empty = false
			}
		}
		return nil
	})
	if err != nil || !empty {
		return err
	}
	// It is still locked. Who has opened it in the meantime finds that it has gone.
	if err := os.Remove(s.path); err != nil {
		return err
	}
	remove(f.made)
	return nil
}

// missing returns the folders of a path that do not exist, the lowest first. It is never
// nil.
func missing(dir string) []string {
	folders := []string{}
	for at := dir; ; at = filepath.Dir(at) {
		if there, err := exists(at); err != nil || there || at == filepath.Dir(at) {
			return folders
		}
		folders = append(folders, at)
	}
}

// remove removes folders, unless somebody has put something there.
func remove(folders []string) {
	for _, folder := range folders {
		_ = os.Remove(folder)
	}
}
