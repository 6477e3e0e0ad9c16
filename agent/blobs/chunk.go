package blobs

// DefaultChunkBytes is the size of the pieces in which attachments are sent, in bytes.
const DefaultChunkBytes = defaultChunkBytes
